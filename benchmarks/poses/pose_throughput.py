"""Claim: poses 3 times as fast as rtmlib's `PoseTracker(det_frequency=10)`.

    python benchmarks/poses/pose_throughput.py

Same cores, same networks (the embedded ones), f32, the pose network on every frame. Each side runs in a process of its
own and warms up once; the sides take turns, five times, with `FRAMES` frames of the clip per turn. Rows are medians.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from statistics import median

import cv2
from rtmlib import Custom, PoseTracker

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from benchmarks.tools.pose_deviation import deviations, report
from benchmarks.tools.pose_split import split_ms
from benchmarks.tools.record import record
from benchmarks.tools.turns import Side, times, together
from dancedist import weights
from dancedist.errors import RecipeInvalid
from dancedist.pose.detect import PeopleDetector, available_cores
from dancedist.pose.runtime import choose_backend
from dancedist.pose.segments import segment_grid
from dancedist.recipe.schema import PoseRecipe, VideoRecipe
from dancedist.video.decode import read_frames
from dancedist.video.probe import probe

CLIP = ROOT.parent / "shared" / "footage" / "target_a_dancer_62s.mp4"
SEGMENT, FRAMES, TURNS, BAR = 256, 512, 5, 3.0
PLAIN, TRACKER = "rtmlib, detector on every frame", "rtmlib PoseTracker(det_frequency=10)"
OURS, ONE, TWO = "ours, f32", "ours, 1 worker of 1 thread", "ours, 2 workers of 1 thread"
WORKERS_BAR, DEVIATION_BAR = 1.8, {"mean": 0.005, "p99": 0.02}


def rtmlib_solution() -> Callable:
    """rtmlib's YOLOX and RTMPose with our networks on onnxruntime, as rtmlib configures it."""
    files = {"det": str(weights.ensure("person-detector")), "pose": str(weights.ensure("pose-halpe26"))}
    shapes = {"det_input_size": (224, 224), "pose_input_size": (256, 256)}
    return partial(Custom, det_class="YOLOX", pose_class="RTMPose", backend="onnxruntime", **files, **shapes)


def rtmlib_side(tracker: bool) -> Callable[[int, int], list]:
    """A function that takes frames [start, stop) from cv2.VideoCapture and returns keypoints and scores of each."""
    run = PoseTracker(rtmlib_solution(), det_frequency=10) if tracker else rtmlib_solution()()

    def loop(start: int, stop: int) -> list:
        if tracker:
            run.reset()
        film = cv2.VideoCapture(str(CLIP))
        assert start == 0, "rtmlib reads from the start"
        return [run(film.read()[1]) for _ in range(stop)]

    return loop


def our_side(precision: str, streams: int) -> Callable[[int, int], list]:
    """A function that detects all people in frames [start, stop), unsmoothed, in segments of 256."""
    detector = PeopleDetector(PoseRecipe(threads=streams, precision=precision), streams=streams)
    film = probe(CLIP, VideoRecipe())

    def loop(start: int, stop: int) -> list:
        grid = [(a + start, b + start) for a, b in segment_grid(stop - start, SEGMENT)]
        with ThreadPoolExecutor(streams) as pool:
            return list(pool.map(lambda bounds: detector.segment(read_frames(film, *bounds)), grid))

    return loop


def turn(sides: list[Side], frames: int) -> dict[str, float]:
    """Frames per second and CPU ms per frame, while each side works on `frames` of its own."""
    busy, done = sum(cpu_times()), frames * len(sides)
    wall_s, cpu_each_s = together(sides, [(i * frames, (i + 1) * frames) for i in range(len(sides))])
    cpu_s = sum(cpu_each_s)
    others = max(0.0, sum(cpu_times()) - busy - cpu_s) / wall_s
    return {"frames_per_s": done / wall_s, "cpu_ms_per_frame": cpu_s / done * 1e3, "cores_used_by_others": others}


def cpu_times() -> list[float]:
    """Seconds that this machine's cores have been busy, by kind; other processes are included."""
    fields = Path("/proc/stat").read_text().splitlines()[0].split()
    # user, nice, system, irq, softirq, steal
    return [int(fields[i]) / 100 for i in (1, 2, 3, 6, 7, 8)]


def take_turns(plan: dict[str, tuple[list[Side], int]]) -> dict[str, dict]:
    """Take turns; returns the medians and every turn's rate."""
    turns: dict[str, list[dict[str, float]]] = {name: [] for name in plan}
    for _ in range(TURNS):
        for name, (sides, frames) in plan.items():
            turns[name].append(turn(sides, frames))
        print({name: round(t[-1]["frames_per_s"], 1) for name, t in turns.items()}, flush=True)
    for side in {side for sides, _ in plan.values() for side in sides}:
        side.end()
    return {name: summary(t) for name, t in turns.items()}


def counted(make: Callable[[], Callable[[int, int], list]]) -> Callable[[int, int], float]:
    """Wrap a side's work so that it returns its CPU seconds."""
    loop = make()
    loop(0, 32)

    def work(start: int, stop: int) -> float:
        started = time.process_time()
        loop(start, stop)
        return time.process_time() - started

    return work


def side(make: Callable[[], Callable[[int, int], list]]) -> Side:
    """Start a side in a process of its own."""
    return Side(partial(counted, make))


def summary(turns: list[dict[str, float]]) -> dict:
    """One row of the table."""
    rates = [round(t["frames_per_s"], 1) for t in turns]
    return {key: round(median(t[key] for t in turns), 2) for key in turns[0]} | {"turns": rates}


def against(rows: dict, fast: str, slow: str) -> dict[str, float]:
    """Speed-up of one row over another, from their rates."""
    return times(rows[fast]["turns"], rows[slow]["turns"])


def bf16() -> str | None:
    """Why this processor has no bf16 row; None if it has one."""
    try:
        choose_backend("openvino", "bf16")
    except RecipeInvalid as reason:
        return f"not measured: {reason}"
    return None


def main() -> None:
    """Print and record the rows."""
    if not CLIP.exists():
        print(f"not measured: needs {CLIP}")
        return
    cores, film = available_cores(), probe(CLIP, VideoRecipe())
    no_bf16 = bf16()
    plain, tracker = side(partial(rtmlib_side, False)), side(partial(rtmlib_side, True))
    ours = side(partial(our_side, "f32", cores))
    workers = [side(partial(our_side, "f32", 1)) for _ in range(2)]
    plan = {PLAIN: ([plain], FRAMES // 4), TRACKER: ([tracker], FRAMES), OURS: ([ours], FRAMES)}
    plan |= {ONE: (workers[:1], SEGMENT), TWO: (workers, SEGMENT)}
    if no_bf16 is None:
        plan["ours, bf16"] = ([side(partial(our_side, "bf16", cores))], FRAMES)
    rows: dict[str, dict | str] = take_turns(plan)
    if no_bf16 is not None:
        rows["ours, bf16"] = no_bf16
    deviation = deviations(film, SEGMENT, SEGMENT)
    ratio, two = against(rows, OURS, TRACKER), against(rows, TWO, ONE)
    split = split_ms(film, SEGMENT)
    figures = {
        "spread": ratio,
        "workers_ratio": two["median"],
        "workers_bar": WORKERS_BAR,
        "clip": f"{CLIP.name}, its first {FRAMES} frames; median of {TURNS} turns",
        "rows": rows,
        "wall_ms_per_frame_of_one_thread": split,
        "deviation_torsos": deviation,
        "deviation_bar": DEVIATION_BAR,
    }
    packages = ("rtmlib", "onnxruntime", "openvino", "opencv-python", "av", "numpy")
    record("pose_throughput", ratio["median"], BAR, figures, packages)
    for name, row in rows.items():
        text = row if isinstance(row, str) else f"{row['frames_per_s']:6.1f} frames/s, of {row['turns']}"
        print(f"{name:40s}{text}")
    print(f"{ratio} times PoseTracker, claimed {BAR}")
    print(f"2 workers {against(rows, TWO, TRACKER)} times PoseTracker, {two} times 1, claimed {WORKERS_BAR}")
    print("ms a frame:", ", ".join(f"{k} {v}" for k, v in split.items()))
    report(deviation)


if __name__ == "__main__":
    main()
