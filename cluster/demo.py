"""The whole system on one machine: two drawn performers are filmed, learnt, and dance each other's dance."""

from __future__ import annotations

import datetime
import json
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from cluster.core.session import connected
from cluster.service_client import RenderService
from cluster.tracking.registry import fetch_dancer
from cluster.training.fleet import train_fleet
from cluster.training.fleet_file import read_fleet
from cluster.training.status import Row
from dancedist.bundle.bundle import load_bundle
from dancedist.demo.show import write_sheet, write_side_by_side
from dancedist.errors import DancedistError
from dancedist.files import published
from dancedist.pose.extract import extract_with_progress
from dancedist.recipe import file_sha256, load_recipe
from dancedist.render.film import Film
from dancedist.synthetic import MILO_TEST, MILO_TRAINING, TARGET_TEST, TARGET_TRAINING
from dancedist.synthetic.films import write_scene
from dancedist.video.probe import probe

log = logging.getLogger("dancedist")
# What each is learnt from, and whose dance each then dances.
SCENES = {"rosa": TARGET_TRAINING, "milo": MILO_TRAINING, "rosas_dance": TARGET_TEST, "milos_dance": MILO_TEST}
DANCES = {"rosa": "milos_dance", "milo": "rosas_dance"}
# Of `quick`, on half of two cores each: what leaves time for all the rest in twenty minutes.
STEPS, FACE_STEPS = 1300, 300
PRESET = "quick"


class FleetFailed(DancedistError):
    """A dancer of the demo that could not be trained."""

    slug = "fleet-failed"


@dataclass
class Shown:
    """What came of a demo: rows of the fleet, films by dancer as the service tells of them, seconds by stage."""

    fleet: list[Row]
    films: dict[str, dict[str, Any]] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)


def demonstrate(out: Path, steps: int = STEPS, face_steps: int = FACE_STEPS) -> Shown:
    """Everything under `out`, an absolute path; what is there already is not done again.

    Raises FleetFailed, ServiceFailed, and what cluster.training.fleet.train_fleet does.
    """
    shown = Shown([])
    encoding = load_recipe(PRESET).video
    with _timed(shown, "filming"):
        for name, scene in SCENES.items():
            write_scene(scene, out / "footage" / f"{name}.mp4", encoding)
    with _timed(shown, "training"), connected():
        shown.fleet = train_fleet(read_fleet(_fleet_file(out, steps, face_steps)), str(out), "fleet")
    if bad := [row for row in shown.fleet if row.state not in ("done", "found done")]:
        raise FleetFailed("; ".join(f"{row.target}: {row.why}" for row in bad), file=out / "fleet.json")
    settings = {"DANCEDIST_STORAGE": str(out), "DANCEDIST_REPLICAS": "2"}
    with _timed(shown, "rendering"), RenderService(settings, out) as service:
        shown.films = _rendered(service, out)
    with _timed(shown, "pictures"):
        for dancer in DANCES:
            _side_by_side(out, dancer)
    with published(out / "demo.json") as partial:
        partial.write_text(json.dumps(asdict(shown), indent=2) + "\n")
    return shown


def _fleet_file(out: Path, steps: int, face_steps: int) -> Path:
    """As a user writes one."""
    today = datetime.date.today().isoformat()
    targets = [
        f'[[target]]\nname = "{name}"\nvideos = "footage/{name}.mp4"\n'
        f'consent = {{who = "{name}, who is drawn", when = {today}, reference = "dancedist/synthetic/scenes.py"}}\n'
        for name in DANCES
    ]
    changes = f"training.max_steps = {steps}\nface.max_steps = {face_steps}\n"
    head = f'[defaults]\npreset = "{PRESET}"\ncpus = 1\n\n[defaults.overrides]\n{changes}'
    file = out / "fleet.toml"
    file.write_text("\n".join([head, *targets]))
    return file


def _rendered(service: RenderService, out: Path) -> dict[str, dict[str, Any]]:
    """Both are asked for at once and watched one after the other; a film that is there already is found."""
    log.info("the render service answers at %s", service.url)
    ids = {dancer: service.send(out / "footage" / f"{dance}.mp4", dancer) for dancer, dance in DANCES.items()}
    told = {}
    for dancer, render_id in ids.items():
        told[dancer] = service.follow(render_id, _line_by_line(dancer))
        film = out / "films" / dancer / "dance.mp4"
        if not film.exists() or file_sha256(film) != told[dancer]["result"]["sha256"]:
            service.fetch(render_id, film)
    return told


def _line_by_line(dancer: str) -> Callable[[dict[str, Any]], None]:
    """Logs a line whenever a render is further."""
    last = ""

    def tell(told: dict[str, Any]) -> None:
        nonlocal last
        now = told["progress"]
        line = f"{dancer}: {now['stage'] or told['state']}, {now['frames_done']} of {now['frames_total']} frames"
        if line != last:
            log.info(line)
        last = line

    return tell


def _side_by_side(out: Path, dancer: str) -> None:
    """Source, figure and result as one film, and as one picture."""
    folder, source_path = out / "films" / dancer, out / "footage" / f"{DANCES[dancer]}.mp4"
    done = folder / "sheet.png"
    if done.exists() and done.stat().st_mtime > (folder / "dance.mp4").stat().st_mtime:
        return
    bundle = load_bundle(fetch_dancer(f"models:/dancer-{dancer}@champion", folder / "dancer", str(out)))
    recipe = bundle.dancer.recipe
    source = probe(source_path, recipe.video)
    poses = extract_with_progress(source, folder / "poses.parquet", recipe.pose)
    dance = probe(folder / "dance.mp4", recipe.video)
    film = Film(dance.path, dance.frames, (dance.width, dance.height), ())
    write_side_by_side(bundle, source, poses, film, folder, recipe.video)
    write_sheet(bundle, source, poses, film, None, folder, recipe.video)


@contextmanager
def _timed(shown: Shown, stage: str) -> Iterator[None]:
    started = time.monotonic()
    yield
    shown.seconds[stage] = round(time.monotonic() - started, 1)
