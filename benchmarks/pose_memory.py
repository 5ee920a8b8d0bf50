"""Claim: a worker's memory does not grow with the video. `python benchmarks/pose_memory.py`, with ../shared/footage.

60 seconds and 30 minutes of the same dance (the footage, looped without encoding it again); each step in a process of
its own. Detection looks at seven segments spread over the video; the join has all of them, copies of those seven.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
from fractions import Fraction
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import av
import numpy as np

from benchmarks.tools.record import record
from cluster.poses.inputs import find_videos
from cluster.poses.segments import Job, Joined, Looked, Segment, join, look, read, segment_name
from dancedist.pose.detect import PeopleDetector, means_of
from dancedist.pose.segments import segment_grid
from dancedist.recipe import load_recipe

CLIP = ROOT.parent / "shared" / "footage" / "target_a_dancer_62s.mp4"
LOOPS, LOOKS, BAR = {"60 s": 1, "30 min": 29}, 7, 1.1


def loop(times: int, out: Path) -> None:
    """The clip's packets so many times over."""
    with av.open(str(out), "w") as film:
        made, offset = None, 0
        for _ in range(times):
            with av.open(str(CLIP)) as clip:
                stream = clip.streams.video[0]
                made = made or film.add_stream_from_template(stream)
                period = int(1 / (Fraction(stream.average_rate) * stream.time_base))
                end = 0
                for packet in clip.demux(stream):
                    if packet.dts is None:
                        continue
                    end = max(end, packet.pts + period)
                    packet.pts, packet.dts, packet.stream = packet.pts + offset, packet.dts + offset, made
                    film.mux(packet)
                offset += end


def job(folder: Path) -> Job:
    recipe = load_recipe("paper")
    pose = recipe.pose.model_copy(update={"threads": 1})
    return Job(str(folder / "out"), recipe.video, pose, recipe.extraction, means_of(pose, "cpu"))


def step(folder: Path, name: str) -> None:
    """One step of a worker's work; prints its peak in MB and how many frames the video has."""
    work = job(folder)
    (video,) = find_videos([str(folder / "film.mp4")])[0]
    found = read(work, video)
    assert isinstance(found, list), found
    if name == "detect":
        detector = PeopleDetector(work.pose)
        for i in np.linspace(0, len(found) - 1, LOOKS).astype(int):
            assert isinstance(look(work, detector, found[i]), Looked)
    if name == "join":
        joined = join(work, found[0])
        assert isinstance(joined, Joined), joined
    frames = found[0].frames
    print(json.dumps({"peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000, "frames": frames}))


def copies(folder: Path, found: list[Segment]) -> None:
    """People for every segment that was not looked at: those of one that was."""
    out, size = folder / "out", job(folder).pose.segment_frames
    grid = segment_grid(found[0].frames, size)
    seen = sorted(out.glob("work/segments/*/*.safetensors"))
    whole = [f for f in seen if int(f.stem) + size <= found[0].frames]
    for start, stop in grid:
        target = out / segment_name(found[0].key, start)
        if not target.exists() and stop - start == size:
            target.write_bytes(whole[start // size % len(whole)].read_bytes())


def peaks(times: int) -> dict[str, float]:
    """Peak of each step, MB."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        loop(times, folder / "film.mp4")
        figures: dict[str, float] = {}
        for what in ("read", "detect", "join"):
            if what == "join":
                copies(folder, read(job(folder), find_videos([str(folder / "film.mp4")])[0][0]))
            command = [sys.executable, __file__, what, str(folder)]
            made = subprocess.run(command, check=True, capture_output=True, text=True)
            answer = json.loads(made.stdout.splitlines()[-1])
            figures |= {what: answer["peak_mb"], "frames": answer["frames"]}
        return figures


def main() -> None:
    """Print and keep the peaks."""
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
