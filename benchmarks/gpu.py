"""Claims: training, rendering and fleets on a GPU, each against what people use today, or against the chip.

    python benchmarks/gpu.py [NAME ...] [--weights generator.safetensors] [--tiny]

Needs torch, numpy, OpenCV and dancedist.models, and under 8 minutes. Each row is a part that runs in a process of its
own and has a time limit, to which the unused time of earlier parts is added. A part that fails or is interrupted does
not affect the others, and what it has measured until then counts. Of the variants that a part tries, the best counts.
Results go to $OUT or to benchmarks/results.
--weights: generator weights of `fast` at 256x256 for gpu_render_stream; by default a generator is trained for it.
--tiny: small networks, also on a processor, only to check that it runs; no result is written.
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

from benchmarks.gpu_parts.fleet import fleet
from benchmarks.gpu_parts.rendering import batch, stream
from benchmarks.gpu_parts.result import Conditions, Row, machine, write
from benchmarks.gpu_parts.share import share_512, share_1024
from benchmarks.gpu_parts.training import memory, training_step

# Parts in the order of their run, with their time limits in seconds, which add up to less than 8 minutes.
PARTS: dict[str, tuple[Callable[[Conditions], Iterator[Row]], float]] = {
    "gpu_fleet_of_8": (fleet, 50),
    "gpu_render_stream": (stream, 90),
    "gpu_render_lockstep": (batch, 50),
    "gpu_training_step": (training_step, 75),
    "gpu_training_share_512": (share_512, 70),
    "gpu_training_memory": (memory, 55),
    "gpu_training_share_1024": (share_1024, 70),
}
HEAD = f"{'':26s}{'ratio':>8s}{'bar':>8s}   {'spread':18s}"


def main(names: list[str], folder: Path, flags: list[str], *, tiny: bool) -> None:
    """Measure the parts; print rows as they are measured, and the table at the end."""
    table, ends = dict[str, str](), time.monotonic() + sum(PARTS[name][1] for name in names)
    print(HEAD, flush=True)
    with TemporaryDirectory(prefix="dancedist-") as scratch:
        for i, name in enumerate(names):
            limit_s = ends - time.monotonic() - sum(PARTS[later][1] for later in names[i + 1 :])
            interrupted = run_part(name, Path(scratch), flags, limit_s)
            table[name] = table_line(name, Path(scratch), interrupted)
            if not tiny and (result := Path(scratch) / f"{name}.json").exists():
                shutil.copy(result, folder)
    print("", json.dumps(machine()), HEAD, *table.values(), sep="\n", flush=True)


def run_part(name: str, scratch: Path, flags: list[str], limit_s: float) -> str:
    """Measure one part in a process of its own; returns why it ended early, "" if it did not."""
    command = [sys.executable, __file__, name, "--into", str(scratch), *flags]
    process = subprocess.Popen(command, process_group=0)
    try:
        return "failed" if process.wait(limit_s) else ""
    except subprocess.TimeoutExpired:
        return f"interrupted after {limit_s:.0f} s"
    finally:
        # The whole process group, with its trainings and compilers.
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def table_line(name: str, scratch: Path, interrupted: str) -> str:
    """Format a part's line of the table."""
    result = scratch / f"{name}.json"
    if not result.exists():
        return f"{name:26s}not measured: {interrupted}"
    content = json.loads(result.read_text())
    line = str(Row(name, content["ratio"], content["bar"], **content["spread"], figures=content))
    return f"{line} ({interrupted})" if interrupted else line


def measure(name: str, folder: Path, conditions: Conditions) -> None:
    """Measure one part in this process; after each of its rows the best one so far is written."""
    best, ratios = None, dict[str, float]()
    for row in PARTS[name][0](conditions):
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
    options = arguments()
    names = options.names or list(PARTS)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if options.into:
        measure(names[0], options.into, Conditions(device, options.tiny, options.weights))
    elif device.type == "cpu" and not options.tiny:
        print(HEAD, *(f"{name:26s}not measured: no GPU" for name in names), sep="\n")
    else:
        out = Path(os.environ.get("OUT", ROOT / "benchmarks" / "results"))
        weights = ["--weights", str(options.weights)] if options.weights else []
        main(names, out, weights + ["--tiny"] * options.tiny, tiny=options.tiny)
