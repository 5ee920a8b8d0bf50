"""Claims: 100,000 videos are planned in seconds and bounded memory; 32 workers are busy for 90 % of 2,000 segments.

`python benchmarks/poses/pose_plan.py`. The Ray Data graph is the real one, on this machine with workers of fractional
CPUs; only the detector is replaced by one that sleeps 100 ms and fails in 1 % of its calls.
"""

from __future__ import annotations

import json
import logging
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from benchmarks.tools.record import record
from cluster.core.session import ray_session
from cluster.poses.extraction import plan_extraction
from cluster.poses.graph import DetectionUpdate, extract
from cluster.poses.inputs import find_videos
from cluster.poses.segments import ExtractionJob, JoinResult
from dancedist.pose.detect import InferenceSpec
from dancedist.pose.people import People
from dancedist.recipe.schema import ExtractionRecipe, PoseRecipe, VideoRecipe
from dancedist.video.encode import write_film

VIDEOS = 100_000
SEGMENTS, WORKERS, GRID, SLEEP_S, FAILURES = 2000, 32, 8, 0.1, 0.01
BUSY_BAR, PLAN_BAR_S = 0.9, 60.0
SPEC = InferenceSpec("-", "-", "openvino", "cpu", "f32", "asleep")


class SleepingDetector:
    """Sleep, return one person, and log the times."""

    spec = SPEC

    def __init__(self, recipe: PoseRecipe) -> None:
        self._log = Path(os.environ["DANCEDIST_BUSY_LOG"]) / str(os.getpid())
        self._log.touch()
        # 32 processes take half a minute to start on 2 cores; only the time after that is measured.
        while len(list(self._log.parent.iterdir())) < WORKERS:
            time.sleep(0.1)
        self._log.write_text(f"ready {time.time()}\n")
        self._random = random.Random(os.getpid())

    def segment(self, frames: Iterable[Any]) -> People:
        started = time.time()
        time.sleep(SLEEP_S)
        with self._log.open("a") as log:
            log.write(f"slept {started} {time.time()}\n")
        if self._random.random() < FAILURES:
            raise RuntimeError("simulated failure")
        people = People.empty(GRID, 1, 26)
        people.xy[:], people.score[:], people.box[:], people.track[:] = 10, 0.9, (0, 0, 20, 40), 0
        return people


def job(output: Path) -> ExtractionJob:
    pose = PoseRecipe(segment_frames=GRID)
    return ExtractionJob(
        str(output), VideoRecipe(), pose, ExtractionRecipe(worker_cpus=2 / WORKERS), SPEC, SleepingDetector
    )


def lengths() -> list[int]:
    """Number of segments of each video: log-normal, 2,000 in total."""
    drawn = np.maximum(1, np.random.default_rng(0).lognormal(1.5, 1.2, SEGMENTS)).astype(int)
    counts = drawn[: int(np.searchsorted(np.cumsum(drawn), SEGMENTS))].tolist()
    return [*counts, SEGMENTS - sum(counts)] if sum(counts) < SEGMENTS else counts


def film(path: Path, number: int, segments: int) -> None:
    colour = np.array([number % 256, number // 256, 128], np.uint8)
    frames = [np.broadcast_to(colour, (32, 32, 3)).copy()] * (segments * GRID)
    write_film(path, frames, Fraction(25), crf=30, x264_preset="ultrafast")


def planning() -> dict[str, float]:
    """Seconds and peak memory of planning 100,000 videos: a folder, a manifest, and a job that is half done."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for i in range(VIDEOS):
            path = folder / "films" / f"{i // 1000:03d}" / f"{i:06d}.mp4"
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("wb") as file:
                file.truncate(1 << 20)
        (folder / "list.csv").write_text(
            "uri\n" + "".join(f"films/{i // 1000:03d}/{i:06d}.mp4\n" for i in range(VIDEOS))
        )
        work = job(folder / "out")
        figures = {}
        for what, inputs in (
            ("folder", folder / "films"),
            ("manifest", folder / "list.csv"),
            ("half done", folder / "films"),
        ):
            if what == "half done":
                mark_half_done(work, folder)
            started = time.perf_counter()
            plan = plan_extraction(work, [str(inputs)])
            figures[f"{what}, s"] = time.perf_counter() - started
            assert len(plan.videos) == VIDEOS, len(plan.videos)
            assert len(plan.done) == (VIDEOS // 2 if what == "half done" else 0), len(plan.done)
        figures["peak, MB"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000
        return figures


def mark_half_done(work: ExtractionJob, folder: Path) -> None:
    out = folder / "out"
    (out / "work/done").mkdir(parents=True)
    (out / "poses").mkdir()
    for video in find_videos([str(folder / "films")])[0][: VIDEOS // 2]:
        (out / work.done_name(video)).touch()
        (out / f"poses/{video.name}.parquet").touch()


def busy() -> dict[str, float]:
    """Share of the time that workers sleep, from when each is ready to the end of the last segment."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "log").mkdir()
        os.environ["DANCEDIST_BUSY_LOG"] = str(folder / "log")
        segment_counts = lengths()
        for number, segments in enumerate(segment_counts):
            film(folder / "films" / f"{number:04d}.mp4", number, segments)
        updates: list[DetectionUpdate] = []
        videos = find_videos([str(folder / "films")])[0]
        logging.getLogger("dancedist").setLevel(logging.ERROR)
        with ray_session():
            done = [*extract(job(folder / "out"), videos, WORKERS, updates.append)]
        assert all(isinstance(d, JoinResult) for d in done), [d for d in done if not isinstance(d, JoinResult)][:3]
        logs = [[line.split() for line in path.read_text().splitlines()] for path in (folder / "log").iterdir()]
        ends = [float(line[2]) for log in logs for line in log if line[0] == "slept"]
        slept = sum(float(line[2]) - float(line[1]) for log in logs for line in log if line[0] == "slept")
        available = sum(max(ends) - float(log[0][1]) for log in logs)
        detected = [update[1] for update in updates if isinstance(update, tuple)]
        return {
            "videos": len(segment_counts),
            "segments": len(detected),
            "calls": len(ends),
            "workers": len(logs),
            "busy": slept / available,
            "seconds": max(ends) - min(float(log[0][1]) for log in logs),
        }


def main() -> None:
    """Print both measurements and record them."""
    if sys.argv[1:] == ["planning"]:
        print(json.dumps(planning()))
        return
    # In a process of its own, so that the peak memory is that of planning.
    result = subprocess.run([sys.executable, __file__, "planning"], check=True, capture_output=True, text=True)
    planned, busy_figures = json.loads(result.stdout.splitlines()[-1]), busy()
    for title, figures in ((f"planning {VIDEOS} videos", planned), (f"{WORKERS} workers", busy_figures)):
        print(title)
        for name, value in figures.items():
            print(f"  {name:24s}{value:10.3f}")
    record("pose_plan", busy_figures["busy"] / BUSY_BAR, 1.0, {"planning": planned, "busy": busy_figures})
    worst_s = max(v for k, v in planned.items() if k.endswith(", s"))
    print(f"planning: {worst_s:.0f} s, claimed {PLAN_BAR_S:.0f}; busy: {busy_figures['busy']:.2f}, claimed {BUSY_BAR}")


if __name__ == "__main__":
    main()
