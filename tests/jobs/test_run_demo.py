"""jobs/run_demo.py: train, register and serve on one machine, with short films of a synthetic performer."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from cluster import demo
from cluster.service_client import ServiceClient, ServiceFailed
from cluster.training.status import TargetStatus
from dancedist.recipe.schema import Recipe
from dancedist.video.probe import probe

pytestmark = [pytest.mark.cluster, pytest.mark.slow]
STEPS, FACE_STEPS = 4, 2
# Output folder, results of the first and the second run, times of the films after the first.
Runs = tuple[Path, demo.DemoResult, demo.DemoResult, list[int]]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    """Run the demo twice."""
    out = tmp_path_factory.mktemp("demo")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_ADDRESS", "local")
        # Only one dancer: test_train_many.py tests a fleet of two.
        patch.setattr(demo, "DANCES", {"rosa": demo.DANCES["rosa"]})
        short = {"rosa": replace(demo.SCENES["rosa"], seconds_each=1.2)}
        patch.setattr(demo, "SCENES", short | {"milos_dance": replace(demo.SCENES["milos_dance"], seconds_each=4.0)})
        first = demo.run_everything(out, STEPS, FACE_STEPS)
        written = written_ns(out)
        return out, first, demo.run_everything(out, STEPS, FACE_STEPS), written


def written_ns(out: Path) -> list[int]:
    return [path.stat().st_mtime_ns for path in sorted((out / "films").rglob("*.*"))]


def test_a_dancer_is_trained_registered_and_rendered(runs: Runs) -> None:
    out, result, _, _ = runs
    assert [(row.target, row.state, row.version) for row in result.fleet] == [("rosa", "done", 1)]
    source, film = (probe(out / path, Recipe().video) for path in ("footage/milos_dance.mp4", "films/rosa/dance.mp4"))
    target = probe(out / "footage/rosa.mp4", Recipe().video)
    assert (film.frames, film.fps, film.audio_codec) == (source.frames, source.fps, "aac")
    assert (film.width, film.height) == (target.width, target.height)
    assert all((out / "films/rosa" / name).exists() for name in ("side_by_side.mp4", "sheet.png"))
    assert len(result.films["rosa"]["chunks"]) == 1 + len(result.films["rosa"]["seams"]) > 1


def test_a_second_run_repeats_nothing(runs: Runs) -> None:
    out, first, again, written = runs
    assert [row.state for row in again.fleet] == ["found done"]
    assert all(again.films[dancer]["result"] == film["result"] for dancer, film in first.films.items())
    assert len(written) > 3 and written_ns(out) == written
    stored = json.loads((out / "demo.json").read_text())
    assert [TargetStatus(**row) for row in stored["fleet"]] == again.fleet


def test_a_service_that_cannot_start_names_its_log(tmp_path: Path) -> None:
    broken = {"DANCEDIST_STORAGE": str(tmp_path), "DANCEDIST_REPLICAS": "-1"}
    with pytest.raises(ServiceFailed, match=r"service\.log"), ServiceClient(broken, tmp_path):
        pass
