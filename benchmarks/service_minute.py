"""Claim: the render service is at least 0.9 times as fast as a bare loop over the same steps, for a film of 60 s.

    python benchmarks/service_minute.py [runs/demo]

runs/demo: the results of `make demo`; without them dancers are trained for a few steps. Both sides extract the poses of
a new film, render it in the same chunks and join them: the loop in one process with all cores, the service over HTTP,
with its database and storage. The claim is about the service with one replica per core, as it is meant to run. One
replica with all cores is measured too, to show the cost of HTTP, database and Ray.
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
from cluster.service_client import ServiceClient
from cluster.tracking.registry import fetch_dancer
from dancedist.bundle.bundle import load_bundle
from dancedist.pose.detect import available_cores
from dancedist.pose.extract import extract_with_progress
from dancedist.progress import silent
from dancedist.recipe.loading import load_recipe
from dancedist.render.clip import ClipRequest, render_clips
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
    """A film to warm up with and one per turn: the same minute encoded differently, as no film is rendered twice."""
    recipe = load_recipe("quick").video
    source = probe(demo / "footage" / DANCE, recipe)
    paths = []
    for i in range(TURNS + 1):
        frames = round(float(source.fps) * (SECONDS if i else 4))
        paths.append(folder / f"{i}.mp4")
        selected = (frame for frame in read_frames(source, 0, min(frames, source.frames)) if frame is not None)
        write_film(
            paths[-1], selected, source.fps, crf=recipe.crf - i, x264_preset=recipe.x264_preset, audio_from=source.path
        )
    return paths


class BareLoop:
    """The other side: the same steps in one process."""

    def __init__(self, dancer: Path, folder: Path, warm: Path) -> None:
        self.bundle, self.folder = load_bundle(dancer), folder
        self(warm)

    def __call__(self, film: Path) -> dict[str, float]:
        """Seconds by step."""
        started = time.perf_counter()
        recipe = self.bundle.dancer.recipe
        source = probe(film, recipe.video)
        poses = as_danced_by(
            self.bundle, extract_with_progress(source, self.folder / f"{film.stem}.parquet", recipe.pose)
        )
        rendering = time.perf_counter()
        files = []
        for i, chunk in enumerate(plan(len(poses), self.bundle.dancer.settling_frames)):
            (clip,) = render_clips(self.bundle, [ClipRequest(poses, chunk, recipe.video)], self.folder)
            files.append((self.folder / f"chunk-{i}.mp4", clip.frames))
            files[-1][0].write_bytes(clip.film)
        joining = time.perf_counter()
        join_chunks(self.folder / f"{film.stem}.mp4", files, poses.fps, film if source.audio_codec else None)
        ends = (rendering, joining, time.perf_counter())
        starts = (started, rendering, joining)
        return {n: round(b - a, 2) for n, a, b in zip(("poses", "rendering", "joining"), starts, ends, strict=True)}


def served(service: ServiceClient, film: Path, folder: Path) -> tuple[float, dict[str, float]]:
    """Seconds until the client has the film, and seconds by step as the service reports them."""
    started = time.perf_counter()
    render_id = service.submit(film, DANCER)
    done = service.watch(render_id, lambda _: silent(1))
    service.download(render_id, folder / "fetched.mp4")
    return round(time.perf_counter() - started, 2), done["timings_s"]


def side_by_side(demo: Path, replicas: int, cpus: int) -> dict[str, Any]:
    """Seconds of both sides, turn by turn, with a number of replicas and of cores per replica."""
    with TemporaryDirectory(prefix="dancedist-") as scratch:
        folder, storage = Path(scratch), Path(scratch) / "runs"
        storage.mkdir()
        (storage / "mlflow").symlink_to(demo / "mlflow")
        warm, *minutes = films(demo, folder)
        dancer = fetch_dancer(f"models:/dancer-{DANCER}@champion", folder / "dancer", str(storage))
        settings = {"DANCEDIST_STORAGE": str(storage), "DANCEDIST_REPLICAS": str(replicas)}
        settings["DANCEDIST_REPLICA_CPUS"] = str(cpus)
        seconds: dict[str, list[float]] = {OURS: [], THEIRS: []}
        steps: dict[str, list[dict[str, float]]] = {OURS: [], THEIRS: []}
        with ServiceClient(settings, storage) as service:
            loop = Side(partial(BareLoop, dancer, folder, warm))
            served(service, warm, folder)
            for film in minutes:
                for name, (took_s, timings_s) in (
                    (OURS, served(service, film, folder)),
                    (THEIRS, loop.turn(film)),
                ):
                    seconds[name].append(round(took_s, 2))
                    steps[name].append(timings_s)
                print({name: (s[-1], steps[name][-1]) for name, s in seconds.items()}, flush=True)
            loop.end()
    return {"spread": times(seconds[THEIRS], seconds[OURS]), "seconds": seconds, "stages_s": steps}


def main(demo: Path) -> None:
    demo, cores = demo_in(demo), available_cores()
    measured = side_by_side(demo, cores, 1) | {"one replica of all cores": side_by_side(demo, 1, cores)}
    record("service_minute", measured["spread"]["median"], BAR, measured, ("ray", "torch"))


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else DEMO)
