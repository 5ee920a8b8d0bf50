"""Claim: a film of 60 s takes the render service hardly longer than a bare loop over the same stages: 0.9 times.

    python benchmarks/service_minute.py [runs/demo]

RUNS/DEMO: what `make demo` left; where it is not there, dancers of a few steps are made. Both sides find the poses of a
film that neither has seen, render it in the same chunks and join them: the loop in one process, the service over HTTP,
with its records, its storage and one replica of all cores.
"""

from __future__ import annotations

import sys
import time
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.tools.demo_dancers import DEMO, demo_in
from benchmarks.tools.record import record
from benchmarks.tools.turns import Side, times
from cluster.registry import fetch_dancer
from cluster.visitor import RenderService
from dancedist.bundle import load_bundle
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

TURNS, SECONDS, BAR = 3, 60, 0.9
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

    def __call__(self, film: Path) -> int:
        """Frames of the film that it makes of this one."""
        recipe = self.bundle.dancer.recipe
        source = probe(film, recipe.video)
        poses = as_danced_by(
            self.bundle, extract_with_progress(source, self.folder / f"{film.stem}.parquet", recipe.pose)
        )
        parts = []
        for i, chunk in enumerate(plan(len(poses), self.bundle.dancer.settling_frames)):
            (clip,) = render_clips(self.bundle, [Wish(poses, chunk, recipe.video)], self.folder)
            parts.append((self.folder / f"chunk-{i}.mp4", clip.frames))
            parts[-1][0].write_bytes(clip.film)
        join_chunks(self.folder / f"{film.stem}.mp4", parts, poses.fps, film if source.audio_codec else None)
        return len(poses)


def served(service: RenderService, film: Path, folder: Path) -> tuple[float, dict[str, float]]:
    """Seconds until its user has the film; by stage, as the service tells them."""
    began = time.perf_counter()
    render_id = service.send(film, DANCER)
    done = service.follow(render_id, lambda _: silent(1))
    service.fetch(render_id, folder / "fetched.mp4")
    return round(time.perf_counter() - began, 2), done["timings_s"]


def main(demo: Path) -> None:
    demo = demo_in(demo)
    with TemporaryDirectory(prefix="dancedist-") as scratch:
        folder, storage = Path(scratch), Path(scratch) / "runs"
        storage.mkdir()
        (storage / "mlflow").symlink_to(demo / "mlflow")
        warm, *minutes = films(demo, folder)
        dancer = fetch_dancer(f"models:/dancer-{DANCER}@champion", folder / "dancer", str(storage))
        settings = {"DANCEDIST_STORAGE": str(storage), "DANCEDIST_REPLICAS": "1"}
        settings["DANCEDIST_REPLICA_CPUS"] = str(available_cores())
        seconds: dict[str, list[float]] = {OURS: [], THEIRS: []}
        with RenderService(settings, storage) as service:
            loop = Side(partial(Loop, dancer, folder, warm))
            stages = []
            served(service, warm, folder)
            for film in minutes:
                took_s, timings_s = served(service, film, folder)
                seconds[OURS].append(took_s)
                stages.append(timings_s)
                seconds[THEIRS].append(round(loop.turn(film)[0], 2))
                print({name: s[-1] for name, s in seconds.items()}, timings_s, flush=True)
    speed = times(seconds[THEIRS], seconds[OURS])
    told = {"spread": speed, "seconds": seconds, "stages_s": stages}
    record("service_minute", speed["median"], BAR, told, ("ray", "torch"))


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else DEMO)
