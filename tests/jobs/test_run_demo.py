"""The whole system on one machine: trained, registered, served over HTTP, with short films of a drawn performer."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from cluster import demo
from cluster.service_client import RenderService, ServiceFailed
from cluster.training.status import Row
from dancedist.recipe import Recipe
from dancedist.video.probe import probe

pytestmark = [pytest.mark.cluster, pytest.mark.slow]
STEPS, FACE_STEPS = 4, 2


Made = tuple[Path, demo.Shown, demo.Shown, list[int]]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """Run twice over; and when its pictures were written, after the first time."""
    out = tmp_path_factory.mktemp("demo")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_ADDRESS", "local")
        # One of the two: a fleet of two is test_train_many.py's.
        patch.setattr(demo, "DANCES", {"rosa": demo.DANCES["rosa"]})
        short = {"rosa": replace(demo.SCENES["rosa"], seconds_each=1.2)}
        patch.setattr(demo, "SCENES", short | {"milos_dance": replace(demo.SCENES["milos_dance"], seconds_each=4.0)})
        first = demo.demonstrate(out, STEPS, FACE_STEPS)
        written = written_ns(out)
        return out, first, demo.demonstrate(out, STEPS, FACE_STEPS), written


def written_ns(out: Path) -> list[int]:
    return [path.stat().st_mtime_ns for path in sorted((out / "films").rglob("*.*"))]


def test_a_dancer_goes_all_the_way(made: Made) -> None:
    out, shown, _, _ = made
    assert [(row.target, row.state, row.version) for row in shown.fleet] == [("rosa", "done", 1)]
    source, film = (probe(out / path, Recipe().video) for path in ("footage/milos_dance.mp4", "films/rosa/dance.mp4"))
    target = probe(out / "footage/rosa.mp4", Recipe().video)
    assert (film.frames, film.fps, film.audio_codec) == (source.frames, source.fps, "aac")
    assert (film.width, film.height) == (target.width, target.height)
    assert all((out / "films/rosa" / name).exists() for name in ("side_by_side.mp4", "sheet.png"))
    assert len(shown.films["rosa"]["chunks"]) == 1 + len(shown.films["rosa"]["seams"]) > 1


def test_a_second_run_does_nothing_again(made: Made) -> None:
    out, first, again, written = made
    assert [row.state for row in again.fleet] == ["found done"]
    assert all(again.films[dancer]["result"] == film["result"] for dancer, film in first.films.items())
    assert len(written) > 3 and written_ns(out) == written
    told = json.loads((out / "demo.json").read_text())
    assert [Row(**row) for row in told["fleet"]] == again.fleet


def test_a_service_that_cannot_start_says_where_to_look(tmp_path: Path) -> None:
    broken = {"DANCEDIST_STORAGE": str(tmp_path), "DANCEDIST_REPLICAS": "-1"}
    with pytest.raises(ServiceFailed, match=r"service\.log"), RenderService(broken, tmp_path):
        pass
