"""Demo of the whole system on one machine: train two drawn performers, and let each dance the other's dance."""

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

from cluster.core.session import ray_session
from cluster.service_client import ServiceClient
from cluster.tracking.registry import fetch_dancer
from cluster.training.fleet import train_fleet
from cluster.training.fleet_file import read_fleet
from cluster.training.status import TargetStatus
from dancedist.bundle.bundle import load_bundle
from dancedist.demo.show import write_sheet, write_side_by_side
from dancedist.errors import DancedistError
from dancedist.files import atomic_write, file_sha256
from dancedist.pose.extract import extract_with_progress
from dancedist.recipe.loading import load_recipe
from dancedist.render.film import Film
from dancedist.synthetic import MILO_TEST, MILO_TRAINING, TARGET_TEST, TARGET_TRAINING
from dancedist.synthetic.films import write_scene
from dancedist.video.probe import probe

log = logging.getLogger("dancedist")
# Scenes by film name: each dancer is trained on the first two, and dances one of the others.
SCENES = {"rosa": TARGET_TRAINING, "milo": MILO_TRAINING, "rosas_dance": TARGET_TEST, "milos_dance": MILO_TEST}
DANCES = {"rosa": "milos_dance", "milo": "rosas_dance"}
# Steps of the preset `quick`, for one core per dancer: with these the whole demo takes twenty minutes.
STEPS, FACE_STEPS = 1300, 300
PRESET = "quick"


class FleetFailed(DancedistError):
    """A dancer of the demo could not be trained."""

    slug = "fleet-failed"


@dataclass
class DemoResult:
    """Contents of demo.json: rows of the fleet, render records by dancer, seconds by part of the demo."""

    fleet: list[TargetStatus]
    films: dict[str, dict[str, Any]] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)


def run_everything(out: Path, steps: int = STEPS, face_steps: int = FACE_STEPS) -> DemoResult:
    """Run the whole demo under `out`, an absolute path; finished parts are not repeated.

    Raises FleetFailed, ServiceFailed, and the errors of cluster.training.fleet.train_fleet.
    """
    result = DemoResult([])
    encoding = load_recipe(PRESET).video
    with _timed(result, "filming"):
        for name, scene in SCENES.items():
            write_scene(scene, out / "footage" / f"{name}.mp4", encoding)
    with _timed(result, "training"), ray_session():
        result.fleet = train_fleet(read_fleet(_fleet_file(out, steps, face_steps)), str(out), "fleet")
    if failed := [row for row in result.fleet if row.state not in ("done", "found done")]:
        raise FleetFailed("; ".join(f"{row.target}: {row.why}" for row in failed), file=out / "fleet.json")
    settings = {"DANCEDIST_STORAGE": str(out), "DANCEDIST_REPLICAS": "2"}
    with _timed(result, "rendering"), ServiceClient(settings, out) as service:
        result.films = _render_films(service, out)
    with _timed(result, "pictures"):
        for dancer in DANCES:
            _side_by_side(out, dancer)
    with atomic_write(out / "demo.json") as partial:
        partial.write_text(json.dumps(asdict(result), indent=2) + "\n")
    return result


def _fleet_file(out: Path, steps: int, face_steps: int) -> Path:
    """Write a fleet.toml like a user's."""
    today = datetime.date.today().isoformat()
    targets = [
        f'[[target]]\nname = "{name}"\nvideos = "footage/{name}.mp4"\n'
        f'consent = {{who = "{name}, who is drawn", when = {today}, reference = "dancedist/synthetic/scenes.py"}}\n'
        for name in DANCES
    ]
    changes = f"training.max_steps = {steps}\nface.max_steps = {face_steps}\n"
    defaults = f'[defaults]\npreset = "{PRESET}"\ncpus = 1\n\n[defaults.overrides]\n{changes}'
    file = out / "fleet.toml"
    file.write_text("\n".join([defaults, *targets]))
    return file


def _render_films(service: ServiceClient, out: Path) -> dict[str, dict[str, Any]]:
    """Submit both renders, then wait for one after the other. Films that were already downloaded stay.

    Returns the render records by dancer.
    """
    log.info("the render service is ready at %s", service.url)
    ids = {dancer: service.submit(out / "footage" / f"{dance}.mp4", dancer) for dancer, dance in DANCES.items()}
    renders = {}
    for dancer, render_id in ids.items():
        renders[dancer] = service.watch(render_id, _log_changes(dancer))
        film = out / "films" / dancer / "dance.mp4"
        if not film.exists() or file_sha256(film) != renders[dancer]["result"]["sha256"]:
            service.download(render_id, film)
    return renders


def _log_changes(dancer: str) -> Callable[[dict[str, Any]], None]:
    """Callback that logs a render's progress when it changes."""
    last_line = ""

    def on_progress(render: dict[str, Any]) -> None:
        nonlocal last_line
        progress = render["progress"]
        stage = progress["stage"] or render["state"]
        line = f"{dancer}: {stage}, {progress['frames_done']} of {progress['frames_total']} frames"
        if line != last_line:
            log.info(line)
        last_line = line

    return on_progress


def _side_by_side(out: Path, dancer: str) -> None:
    """Write source, skeleton and result side by side, as a film and as a sheet."""
    folder, source_path = out / "films" / dancer, out / "footage" / f"{DANCES[dancer]}.mp4"
    sheet = folder / "sheet.png"
    if sheet.exists() and sheet.stat().st_mtime > (folder / "dance.mp4").stat().st_mtime:
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
def _timed(result: DemoResult, part: str) -> Iterator[None]:
    started = time.monotonic()
    yield
    result.seconds[part] = round(time.monotonic() - started, 1)
