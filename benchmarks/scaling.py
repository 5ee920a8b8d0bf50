"""Claim: time and memory grow no faster than the film and the fleet do.

    python benchmarks/scaling.py [runs/demo]

Measured are films of several lengths with `dancedist poses` and `dancedist render`, fleets of several sizes with
train_many (one core per target), and a minute rendered by one and by two replicas (from render_replicas.py).
Each point is a process of its own; its memory is the peak of it and all its child processes together. Growth: the cost
of the last point over that of the first, divided by the ratio of their sizes; fixed costs make it smaller than 1. The
curves are in docs/scaling.png; docs/scaling.md has the conclusions.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from fractions import Fraction
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from benchmarks.tools.demo_dancers import DEMO, demo_in
from benchmarks.tools.memory import MemoryWatch
from benchmarks.tools.record import RESULTS, record
from cluster.tracking.registry import fetch_dancer
from dancedist.recipe.loading import load_recipe
from dancedist.synthetic import TARGET_TEST
from dancedist.video.decode import read_frames
from dancedist.video.encode import write_film
from dancedist.video.probe import probe

FILM_S, FLEETS, STEPS, BAR = (15, 30, 60, 120), (1, 2, 4, 6), 40, 1.1
Point = dict[str, float]


def measured(command: list[str], env: dict[str, str] | None = None) -> Point:
    """Run a command; returns its seconds and the peak MB of it and its child processes."""
    started = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, *command], cwd=ROOT, env={**os.environ, **(env or {})}, stderr=subprocess.DEVNULL
    )
    with MemoryWatch(process.pid) as memory:
        assert process.wait() == 0, command
    return {"seconds": round(time.perf_counter() - started, 2), "peak_mb": round(memory.peak_mb)}


def films(demo: Path, folder: Path) -> dict[str, list[Point]]:
    """Measure poses and rendering by seconds of film."""
    dancer = fetch_dancer("models:/dancer-rosa@champion", folder / "dancer", str(demo))
    recipe = load_recipe("quick").video
    dance = probe(demo / "footage" / "milo.mp4", recipe)
    frames = [frame for frame in read_frames(dance, 0, round(15 * dance.fps)) if frame is not None]
    points: dict[str, list[Point]] = {"poses": [], "rendering": []}
    for seconds in FILM_S:
        film = folder / f"{seconds}.mp4"
        there_and_back = ((frames + frames[::-1]) * seconds)[: round(seconds * dance.fps)]
        write_film(film, iter(there_and_back), dance.fps, crf=recipe.crf, x264_preset=recipe.x264_preset)
        run = ["-m", "dancedist"]
        poses = measured([*run, "poses", str(film), "--out", str(folder / f"{seconds}.parquet")])
        rendering = measured([*run, "render", str(dancer), str(film), "--out", str(folder / "out.mp4")])
        points["poses"].append({"size": seconds, **poses})
        points["rendering"].append({"size": seconds, **rendering})
        print(seconds, "s of film:", points["poses"][-1], points["rendering"][-1], flush=True)
    return points


def fleets(folder: Path) -> list[Point]:
    """Measure fleets by number of targets."""
    points = []
    for targets in FLEETS:
        fleet = folder / f"fleet-{targets}"
        fleet.mkdir()
        lines = [f'[defaults]\npreset = "quick"\ncpus = 1\noverrides.training.max_steps = {STEPS}']
        lines.append(f"overrides.face.max_steps = {STEPS // 4}")
        for i in range(targets):
            film = fleet / f"t{i}.mp4"
            frames = list(islice(TARGET_TEST.frames(), 100 + i))
            write_film(film, iter(frames), Fraction(25), crf=16, x264_preset="ultrafast")
            lines.append(f'[[target]]\nname = "t{i}"\nvideos = "{film.name}"')
        (fleet / "fleet.toml").write_text("\n".join(lines))
        job = ["jobs/train_many.py", "--fleet", str(fleet / "fleet.toml"), "--storage", str(fleet / "out")]
        costs = measured(job, {"RAY_ADDRESS": "local"})
        points.append({"size": targets, **costs})
        print(targets, "targets:", points[-1], flush=True)
    return points


def growth(points: list[Point], what: str) -> float:
    """Growth of seconds as defined above; of memory, the ratio of the last point to the first."""
    first, last = points[0], points[-1]
    ratio = last[what] / first[what]
    return round(ratio if what == "peak_mb" else ratio / (last["size"] / first["size"]), 3)


def plot(points: dict[str, list[Point]], path: Path) -> None:
    """Plot time and memory of each measurement."""
    figure = Figure(figsize=(4 * len(points), 5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(2, len(points))
    units = {"seconds": "s", "peak_mb": "peak MB"}
    labels = {"poses": "s of film", "rendering": "s of film", "fleet": "targets", "replicas": "replicas"}
    for column, (name, row) in enumerate(points.items()):
        for line, what in enumerate(("seconds", "peak_mb")):
            axis, sizes = axes[line][column], [point["size"] for point in row]
            values = [point[what] for point in row]
            axis.plot(sizes, values, "o-")
            axis.xaxis.set_major_locator(MaxNLocator(integer=True))
            # From zero to a little beyond the last point.
            axis.set(xlim=(0, 1.1 * max(sizes)), ylim=(0, 1.1 * max(values)))
            axis.set(xlabel=labels[name], ylabel=units[what], title=name)
    figure.savefig(path, dpi=80)


def replicas() -> list[Point]:
    """Points from the result of render_replicas.py."""
    runs = json.loads((RESULTS / "render_replicas.json").read_text())["runs"]
    return [
        {"size": count, "seconds": round(sum(run["timings_s"].values()), 1), "peak_mb": run["peak_mb"]}
        for count, run in ((1, runs["one"]), (2, runs["two"]))
    ]


def main(demo: Path) -> None:
    with TemporaryDirectory(prefix="dancedist-") as scratch:
        folder = Path(scratch)
        points = {**films(demo_in(demo), folder), "fleet": fleets(folder)}
    grown = {f"{name} {what}": growth(row, what) for name, row in points.items() for what in ("seconds", "peak_mb")}
    points["replicas"] = replicas()
    plot(points, ROOT / "docs" / "scaling.png")
    print(grown)
    figures = {"points": points, "growth": grown}
    record("scaling", BAR / max(value for name, value in grown.items() if "seconds" in name), 1.0, figures, ("ray",))


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else DEMO)
