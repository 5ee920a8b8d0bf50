"""Claim: a film of 60 s takes the render service hardly longer than a bare loop over the same stages: 0.9 times.

    python benchmarks/service_minute.py [runs/demo]

RUNS/DEMO: what `make demo` left; where it is not there, dancers of a few steps are made. Both sides find the poses of a
film that neither has seen, render it in the same chunks and join them: the loop in one process that has all cores, the
service over HTTP, with its records and its storage. The claim is the service's as it is meant to run, a replica a core;
beside it stands one replica that has all cores, which shows what HTTP, records and Ray cost.
"""

from __future__ import annotations

import sys
import time
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.tools.demo_dancers import DEMO, demo_in
from benchmarks.tools.record import record
from benchmarks.tools.turns import Side, times
from cluster.service_client import RenderService
from cluster.tracking.registry import fetch_dancer
from dancedist.bundle.bundle import load_bundle
from dancedist.pose.detect import available_cores
from dancedist.pose.extract import extract_with_progress
from dancedist.progress import silent
from dancedist.recipe import load_recipe
from dancedist.render.clip import Wish, render_clips
from dancedist.render.film import as_danced_by
from dancedist.render.join import join_chunks
from dancedist.render.plan import plan
from dancedist.video.decode import read_frames
from dancedist.video.encode import write_film
from dancedist.video.probe import probe

TURNS, SECONDS, BAR = 2, 60, 0.9
DANCER, DANCE = "rosa", "milo.mp4"
OURS, THEIRS = "the service", "a bare loop"


def films(demo: Path, folder: Path) -> list[Path]:
    """One to warm up with, one for each turn: the same minute encoded otherwise, for no film is made twice."""
    recipe = load_recipe("quick").video
    source = probe(demo / "footage" / DANCE, recipe)
    made = []
    for i in range(TURNS + 1):
        frames = round(float(source.fps) * (SECONDS if i else 4))
        made.append(folder / f"{i}.mp4")
        shown = (frame for frame in read_frames(source, 0, min(frames, source.frames)) if frame is not None)
        write_film(made[-1], shown, source.fps, crf=recipe.crf - i, speed=recipe.speed, audio_from=source.path)
    return made


class Loop:
    """The bare loop."""

    def __init__(self, dancer: Path, folder: Path, warm: Path) -> None:
        self.bundle, self.folder = load_bundle(dancer), folder
        self(warm)

    def __call__(self, film: Path) -> dict[str, float]:
        """Seconds by stage."""
        began = time.perf_counter()
        recipe = self.bundle.dancer.recipe
        source = probe(film, recipe.video)
        poses = as_danced_by(
            self.bundle, extract_with_progress(source, self.folder / f"{film.stem}.parquet", recipe.pose)
        )
        rendering = time.perf_counter()
        parts = []
        for i, chunk in enumerate(plan(len(poses), self.bundle.dancer.settling_frames)):
            (clip,) = render_clips(self.bundle, [Wish(poses, chunk, recipe.video)], self.folder)
            parts.append((self.folder / f"chunk-{i}.mp4", clip.frames))
            parts[-1][0].write_bytes(clip.film)
        joining = time.perf_counter()
        join_chunks(self.folder / f"{film.stem}.mp4", parts, poses.fps, film if source.audio_codec else None)
        ends = (rendering, joining, time.perf_counter())
        starts = (began, rendering, joining)
        return {n: round(b - a, 2) for n, a, b in zip(("poses", "rendering", "joining"), starts, ends, strict=True)}


def served(service: RenderService, film: Path, folder: Path) -> tuple[float, dict[str, float]]:
    """Seconds until its user has the film; by stage, as the service tells them."""
    began = time.perf_counter()
    render_id = service.send(film, DANCER)
    done = service.follow(render_id, lambda _: silent(1))
    service.fetch(render_id, folder / "fetched.mp4")
    return round(time.perf_counter() - began, 2), done["timings_s"]


def side_by_side(demo: Path, replicas: int, cpus: int) -> dict[str, Any]:
    """Seconds of both sides, turn by turn, with so many replicas of so many cores."""
    with TemporaryDirectory(prefix="dancedist-") as scratch:
        folder, storage = Path(scratch), Path(scratch) / "runs"
        storage.mkdir()
        (storage / "mlflow").symlink_to(demo / "mlflow")
        warm, *minutes = films(demo, folder)
        dancer = fetch_dancer(f"models:/dancer-{DANCER}@champion", folder / "dancer", str(storage))
        settings = {"DANCEDIST_STORAGE": str(storage), "DANCEDIST_REPLICAS": str(replicas)}
        settings["DANCEDIST_REPLICA_CPUS"] = str(cpus)
        seconds: dict[str, list[float]] = {OURS: [], THEIRS: []}
        stages: dict[str, list[dict[str, float]]] = {OURS: [], THEIRS: []}
        with RenderService(settings, storage) as service:
            loop = Side(partial(Loop, dancer, folder, warm))
            served(service, warm, folder)
            for film in minutes:
                for name, (took_s, timings_s) in (
                    (OURS, served(service, film, folder)),
                    (THEIRS, loop.turn(film)),
                ):
                    seconds[name].append(round(took_s, 2))
                    stages[name].append(timings_s)
                print({name: (s[-1], stages[name][-1]) for name, s in seconds.items()}, flush=True)
            loop.end()
    return {"spread": times(seconds[THEIRS], seconds[OURS]), "seconds": seconds, "stages_s": stages}


def main(demo: Path) -> None:
    demo, cores = demo_in(demo), available_cores()
    told = side_by_side(demo, cores, 1) | {"one replica of all cores": side_by_side(demo, 1, cores)}
    record("service_minute", told["spread"]["median"], BAR, told, ("ray", "torch"))


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else DEMO)
