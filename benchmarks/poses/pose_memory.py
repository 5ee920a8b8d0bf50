"""Claim: a worker's memory does not grow with the video.

    python benchmarks/poses/pose_memory.py

Needs ../shared/footage. 60 seconds and 30 minutes of the same dance (the footage, looped without re-encoding) are
compared, each step in a process of its own. Seven segments spread over the video are detected; all segments are joined,
the others as copies of those.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
from fractions import Fraction
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

import av
import numpy as np

from benchmarks.tools.record import record
from cluster.poses.inputs import find_videos
from cluster.poses.segments import (
    DetectionResult,
    ExtractionJob,
    JoinResult,
    Segment,
    detect_segment,
    join_segments,
    segment_name,
    split_video,
)
from dancedist.pose.detect import PeopleDetector, inference_spec
from dancedist.pose.segments import segment_grid
from dancedist.recipe.loading import load_recipe

CLIP = ROOT.parent / "shared" / "footage" / "target_a_dancer_62s.mp4"
LOOPS, DETECTED_SEGMENTS, BAR = {"60 s": 1, "30 min": 29}, 7, 1.1


def loop(times: int, out: Path) -> None:
    """Write the clip's packets a number of times in a row."""
    with av.open(str(out), "w") as film:
        out_stream, offset = None, 0
        for _ in range(times):
            with av.open(str(CLIP)) as clip:
                stream = clip.streams.video[0]
                out_stream = out_stream or film.add_stream_from_template(stream)
                period = int(1 / (Fraction(stream.average_rate) * stream.time_base))
                end = 0
                for packet in clip.demux(stream):
                    if packet.dts is None:
                        continue
                    end = max(end, packet.pts + period)
                    packet.pts, packet.dts, packet.stream = packet.pts + offset, packet.dts + offset, out_stream
                    film.mux(packet)
                offset += end


def job(folder: Path) -> ExtractionJob:
    recipe = load_recipe("paper")
    pose = recipe.pose.model_copy(update={"threads": 1})
    return ExtractionJob(str(folder / "out"), recipe.video, pose, recipe.extraction, inference_spec(pose, "cpu"))


def step(folder: Path, name: str) -> None:
    """Do one step of a worker; prints its peak memory in MB and the number of the video's frames."""
    work = job(folder)
    (video,) = find_videos([str(folder / "film.mp4")])[0]
    segments = split_video(work, video)
    assert isinstance(segments, list), segments
    if name == "detect":
        detector = PeopleDetector(work.pose)
        for i in np.linspace(0, len(segments) - 1, DETECTED_SEGMENTS).astype(int):
            assert isinstance(detect_segment(work, detector, segments[i]), DetectionResult)
    if name == "join":
        joined = join_segments(work, segments[0])
        assert isinstance(joined, JoinResult), joined
    frames = segments[0].frames
    print(json.dumps({"peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000, "frames": frames}))


def copy_segments(folder: Path, segments: list[Segment]) -> None:
    """Write people for every segment that was not detected: copies of those of a detected one."""
    out, size = folder / "out", job(folder).pose.segment_frames
    grid = segment_grid(segments[0].frames, size)
    detected = sorted(out.glob("work/segments/*/*.safetensors"))
    full = [f for f in detected if int(f.stem) + size <= segments[0].frames]
    for start, stop in grid:
        target = out / segment_name(segments[0].key, start)
        if not target.exists() and stop - start == size:
            target.write_bytes(full[start // size % len(full)].read_bytes())


def peaks(times: int) -> dict[str, float]:
    """Peak memory of each step in MB."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        loop(times, folder / "film.mp4")
        figures: dict[str, float] = {}
        for what in ("read", "detect", "join"):
            if what == "join":
                copy_segments(folder, split_video(job(folder), find_videos([str(folder / "film.mp4")])[0][0]))
            command = [sys.executable, __file__, what, str(folder)]
            result = subprocess.run(command, check=True, capture_output=True, text=True)
            printed = json.loads(result.stdout.splitlines()[-1])
            figures |= {what: printed["peak_mb"], "frames": printed["frames"]}
        return figures


def main() -> None:
    """Print and record the peaks."""
    if len(sys.argv) > 1:
        step(Path(sys.argv[2]), sys.argv[1])
        return
    if not CLIP.exists():
        print(f"not measured: needs {CLIP}")
        return
    figures = {name: peaks(times) for name, times in LOOPS.items()}
    short, long = figures.values()
    growth = {step: long[step] / short[step] for step in ("read", "detect", "join")}
    worker = max(long[s] for s in growth) / max(short[s] for s in growth)
    for name, row in figures.items():
        print(f"{name:8s}{row['frames']:8.0f} frames; MB: " + ", ".join(f"{s} {row[s]:.0f}" for s in growth))
    print("growth: " + ", ".join(f"{s} {g:.3f}" for s, g in growth.items()) + f"; largest process {worker:.3f}")
    record("pose_memory", BAR / max(growth.values()), 1.0, {"peaks_mb": figures, "growth": growth, "largest": worker})


if __name__ == "__main__":
    main()
