"""Claim: poses 3 times as fast as rtmlib's `PoseTracker(det_frequency=10)`. `python benchmarks/pose_throughput.py`.

Same cores, same networks (the embedded ones), f32, the pose network on every frame. Each side lives in a process of
its own, warms up once, and the sides take turns, five times. `FRAMES` frames of the clip a turn; rows are medians.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from statistics import median

import cv2
from pose_deviation import deviations, report
from pose_split import split_ms
from record import record
from rtmlib import Custom, PoseTracker

from dancedist import weights
from dancedist.errors import RecipeInvalid
from dancedist.pose.detect import PeopleDetector, available_cores
from dancedist.pose.runtime import choose_backend
from dancedist.pose.segments import segment_grid
from dancedist.recipe import PoseRecipe, VideoRecipe
from dancedist.video.decode import read_frames
from dancedist.video.probe import probe

ROOT = Path(__file__).parents[1]
CLIP = ROOT.parent / "shared" / "footage" / "target_a_dancer_62s.mp4"
SEGMENT, FRAMES, TURNS, BAR = 256, 512, 5, 3.0
PLAIN, TRACKER = "rtmlib, detector on every frame", "rtmlib PoseTracker(det_frequency=10)"
OURS, ONE, TWO = "ours, f32", "ours, 1 worker of 1 thread", "ours, 2 workers of 1 thread"
WORKERS_BAR, DEVIATION_BAR = 1.8, {"mean": 0.005, "p99": 0.02}


def rtmlib_solution() -> Callable:
    """rtmlib's YOLOX and RTMPose with our networks on onnxruntime, as it sets it up itself."""
    files = {"det": str(weights.ensure("person-detector")), "pose": str(weights.ensure("pose-halpe26"))}
    shapes = {"det_input_size": (224, 224), "pose_input_size": (256, 256)}
    return partial(Custom, det_class="YOLOX", pose_class="RTMPose", backend="onnxruntime", **files, **shapes)


def rtmlib_side(tracker: bool) -> Callable[[int, int], list]:
    """frames [start, stop) from cv2.VideoCapture -> keypoints and scores of each."""
    run = PoseTracker(rtmlib_solution(), det_frequency=10) if tracker else rtmlib_solution()()

    def loop(start: int, stop: int) -> list:
        if tracker:
            run.reset()
        film = cv2.VideoCapture(str(CLIP))
        assert start == 0, "rtmlib reads from the start"
        return [run(film.read()[1]) for _ in range(stop)]

    return loop


def our_side(precision: str, streams: int) -> Callable[[int, int], list]:
    """frames [start, stop) -> everybody in them, raw, a segment of 256 after the other."""
    detector = PeopleDetector(PoseRecipe(threads=streams, precision=precision), streams=streams)
    film = probe(CLIP, VideoRecipe())

    def loop(start: int, stop: int) -> list:
        grid = [(a + start, b + start) for a, b in segment_grid(stop - start, SEGMENT)]
        with ThreadPoolExecutor(streams) as pool:
            return list(pool.map(lambda bounds: detector.segment(read_frames(film, *bounds)), grid))

    return loop


def serve(make: Callable[[], Callable[[int, int], list]], pipe) -> None:
    """A side's process: runs what it is told to, answers with CPU seconds."""
    loop = make()
    loop(0, 32)
    pipe.send("ready")
    for start, stop in iter(pipe.recv, None):
        began = time.process_time()
        loop(start, stop)
        pipe.send(time.process_time() - began)


class Side:
    """A process that waits for its turn."""

    def __init__(self, make: Callable[[], Callable[[int, int], list]]) -> None:
        context = get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=serve, args=(make, theirs), daemon=True)
        self.process.start()
        self.pipe.recv()


def turn(sides: list[Side], frames: int) -> dict[str, float]:
    """Frames a second while each of the sides works on `frames` of its own, and CPU ms a frame."""
    began, busy = time.perf_counter(), sum(cpu_times())
    for i, side in enumerate(sides):
        side.pipe.send((i * frames, (i + 1) * frames))
    cpu_s = sum(side.pipe.recv() for side in sides)
    wall_s, done = time.perf_counter() - began, frames * len(sides)
    others = max(0.0, sum(cpu_times()) - busy - cpu_s) / wall_s
    return {"frames_per_s": done / wall_s, "cpu_ms_per_frame": cpu_s / done * 1e3, "cores_used_by_others": others}


def cpu_times() -> list[float]:
    """Seconds that this machine's cores have been busy, by kind: what others do beside a benchmark counts."""
    fields = Path("/proc/stat").read_text().splitlines()[0].split()
    # user, nice, system, irq, softirq, steal
    return [int(fields[i]) / 100 for i in (1, 2, 3, 6, 7, 8)]


def take_turns(plan: dict[str, tuple[list[Side], int]]) -> dict[str, dict]:
    """Medians of the turns, and every turn's rate."""
    turns: dict[str, list[dict[str, float]]] = {name: [] for name in plan}
    for _ in range(TURNS):
        for name, (sides, frames) in plan.items():
            turns[name].append(turn(sides, frames))
        print({name: round(t[-1]["frames_per_s"], 1) for name, t in turns.items()}, flush=True)
    for side in {side for sides, _ in plan.values() for side in sides}:
        side.pipe.send(None)
    return {name: summary(t) for name, t in turns.items()}


def summary(turns: list[dict[str, float]]) -> dict:
    """One row of the table."""
    rates = [round(t["frames_per_s"], 1) for t in turns]
    return {key: round(median(t[key] for t in turns), 2) for key in turns[0]} | {"turns": rates}


def times(rows: dict, fast: str, slow: str) -> float:
    """Median over the turns of how many times as fast: in one turn a shared machine is as busy for both."""
    return round(median(a / b for a, b in zip(rows[fast]["turns"], rows[slow]["turns"], strict=True)), 2)


def bf16() -> str | None:
    """Why this processor gives no bf16 row; None where it does."""
    try:
        choose_backend("openvino", "bf16")
    except RecipeInvalid as reason:
        return f"not measured: {reason}"
    return None


def main() -> None:
    """Print the rows and write them down."""
    cores, film = available_cores(), probe(CLIP, VideoRecipe())
    no_bf16 = bf16()
    plain, tracker = Side(partial(rtmlib_side, False)), Side(partial(rtmlib_side, True))
    ours = Side(partial(our_side, "f32", cores))
    workers = [Side(partial(our_side, "f32", 1)) for _ in range(2)]
    plan = {PLAIN: ([plain], FRAMES // 4), TRACKER: ([tracker], FRAMES), OURS: ([ours], FRAMES)}
    plan |= {ONE: (workers[:1], SEGMENT), TWO: (workers, SEGMENT)}
    if no_bf16 is None:
        plan["ours, bf16"] = ([Side(partial(our_side, "bf16", cores))], FRAMES)
    rows: dict[str, dict | str] = take_turns(plan)
    if no_bf16 is not None:
        rows["ours, bf16"] = no_bf16
    deviation = deviations(film, SEGMENT, SEGMENT)
    ratio, workers_ratio = times(rows, OURS, TRACKER), times(rows, TWO, ONE)
    split = split_ms(film, SEGMENT)
    figures = {
        "workers_ratio": workers_ratio,
        "workers_bar": WORKERS_BAR,
        "clip": f"{CLIP.name}, its first {FRAMES} frames; median of {TURNS} turns",
        "rows": rows,
        "wall_ms_per_frame_of_one_thread": split,
        "deviation_torsos": deviation,
        "deviation_bar": DEVIATION_BAR,
    }
    packages = ("rtmlib", "onnxruntime", "openvino", "opencv-python", "av", "numpy")
    record("pose_throughput", ratio, BAR, figures, packages)
    for name, row in rows.items():
        told = row if isinstance(row, str) else f"{row['frames_per_s']:6.1f} frames/s, of {row['turns']}"
        print(f"{name:40s}{told}")
    print(f"{ratio} times PoseTracker, claimed {BAR}")
    print(f"2 workers {times(rows, TWO, TRACKER)} times PoseTracker, {workers_ratio} times 1, claimed {WORKERS_BAR}")
    print("ms a frame:", ", ".join(f"{k} {v}" for k, v in split.items()))
    report(deviation)


if __name__ == "__main__":
    main()
