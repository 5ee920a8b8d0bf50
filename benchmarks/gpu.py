"""Claims: what a GPU does for training, rendering and fleets, each against what people use today, or against the chip.

    python benchmarks/gpu.py [NAME ...] [--weights generator.safetensors] [--tiny]

Needs torch, numpy, OpenCV and dancedist.models, and under 8 minutes. Each row is a part with a process of its own and
its seconds, plus what others left of theirs. One that fails, or is broken off, leaves the others as they are; what it
had measured by then counts. Of the means that a part tries, the best count. Results go to $OUT or to
benchmarks/results.
--weights: a dancer's of `fast` at 256x256, whom the stream shows instead of one that is taught for it.
--tiny: everything small, on a processor too, to see that it runs; nothing is kept.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import torch

from benchmarks.tools.gpu_fleet import fleet
from benchmarks.tools.gpu_part import Conditions, Row, machine, write
from benchmarks.tools.gpu_rendering import lockstep, stream
from benchmarks.tools.gpu_share import share_512, share_1024
from benchmarks.tools.gpu_training import memory, training_step

# In this order; the seconds add up to less than 8 minutes.
PARTS: dict[str, tuple[Callable[[Conditions], Iterator[Row]], float]] = {
    "gpu_fleet_of_8": (fleet, 50),
    "gpu_render_stream": (stream, 90),
    "gpu_render_lockstep": (lockstep, 50),
    "gpu_training_step": (training_step, 75),
    "gpu_training_share_512": (share_512, 70),
    "gpu_training_memory": (memory, 55),
    "gpu_training_share_1024": (share_1024, 70),
}
HEAD = f"{'':26s}{'ratio':>8s}{'bar':>8s}   {'spread':18s}"


def main(names: list[str], folder: Path, flags: list[str], *, tiny: bool) -> None:
    """Measure all parts; print rows as they come, and the table."""
    table, ends = dict[str, str](), time.monotonic() + sum(PARTS[name][1] for name in names)
    print(HEAD, flush=True)
    with TemporaryDirectory(prefix="dancedist-") as scratch:
        for i, name in enumerate(names):
            limit_s = ends - time.monotonic() - sum(PARTS[later][1] for later in names[i + 1 :])
            broken_off = run_part(name, Path(scratch), flags, limit_s)
            table[name] = told(name, Path(scratch), broken_off)
            if not tiny and (result := Path(scratch) / f"{name}.json").exists():
                shutil.copy(result, folder)
    print("", json.dumps(machine()), HEAD, *table.values(), sep="\n", flush=True)


def run_part(name: str, scratch: Path, flags: list[str], limit_s: float) -> str:
    """Measure one, in a process of its own; returns what broke it off."""
    command = [sys.executable, __file__, name, "--into", str(scratch), *flags]
    process = subprocess.Popen(command, process_group=0)
    try:
        return "failed" if process.wait(limit_s) else ""
    except subprocess.TimeoutExpired:
        return f"broken off after {limit_s:.0f} s"
    finally:
        # Trainees and compilers too.
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def told(name: str, scratch: Path, broken_off: str) -> str:
    """A part's line of the table."""
    result = scratch / f"{name}.json"
    if not result.exists():
        return f"{name:26s}not measured: {broken_off}"
    facts = json.loads(result.read_text())
    line = str(Row(name, facts["ratio"], facts["bar"], **facts["spread"], figures=facts))
    return f"{line} ({broken_off})" if broken_off else line


def measure(name: str, folder: Path, how: Conditions) -> None:
    """One part, here; after each of its rows the best so far is written."""
    best, ratios = None, dict[str, float]()
    for row in PARTS[name][0](how):
        print(row, flush=True)
        ratios[row.figures.get("means", "")] = row.ratio
        best = row if best is None or row.ratio >= best.ratio else best
        write(best, ratios, folder)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(PARTS))
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--weights", type=Path)
    # Measure one part in this process.
    parser.add_argument("--into", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    given = arguments()
    chosen = given.names or list(PARTS)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if given.into:
        measure(chosen[0], given.into, Conditions(device, given.tiny, given.weights))
    elif device.type == "cpu" and not given.tiny:
        print(HEAD, *(f"{name:26s}not measured: no GPU" for name in chosen), sep="\n")
    else:
        out = Path(os.environ.get("OUT", ROOT / "benchmarks" / "results"))
        weights = ["--weights", str(given.weights)] if given.weights else []
        main(chosen, out, weights + ["--tiny"] * given.tiny, tiny=given.tiny)
