"""What the parts of benchmarks/gpu.py have in common: a row of its table, what it is measured on, sides in turns."""

from __future__ import annotations

import importlib.metadata
import json
import platform
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.tools.gpu_networks import Shape, tiny_of

Work = Callable[[], object]
ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Row:
    """A claim as measured: the median over the turns and their spread. `ratio` is an improvement, against `bar`.

    `figures["means"]`: what it was reached by, where a part tries several.
    """

    name: str
    ratio: float
    bar: float
    lowest: float
    highest: float
    figures: dict[str, Any]

    @classmethod
    def of(cls, name: str, bar: float, ratios: Sequence[float], figures: dict[str, Any]) -> Row:
        """A row of the turns' ratios."""
        return cls(name, *(round(r, 3) for r in (median(ratios), bar, min(ratios), max(ratios))), figures)

    def __str__(self) -> str:
        spread, means = f"{self.lowest:.2f} to {self.highest:.2f}", self.figures.get("means", "")
        return f"{self.name:26s}{self.ratio:8.2f}{self.bar:8.2f}   {spread:18s}{means}"


@dataclass(frozen=True)
class Conditions:
    """How a part measures. `tiny`: all is small and nothing compiled, only to see that it runs."""

    device: torch.device
    tiny: bool = False
    weights: Path | None = None

    @property
    def turns(self) -> int:
        """Of each side."""
        return 2 if self.tiny else 5

    @property
    def turn_s(self) -> float:
        """About what a turn takes."""
        return 0.01 if self.tiny else 0.6

    def shape(self, shape: Shape) -> Shape:
        """The networks to measure."""
        return tiny_of(shape) if self.tiny else shape


def take_turns(sides: Mapping[str, Work], how: Conditions) -> dict[str, list[float]]:
    """Runs a second of each side, turn by turn."""
    runs = {name: enough(work, how) for name, work in sides.items()}
    rates: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(how.turns):
        for name, work in sides.items():
            rates[name].append(per_second(work, runs[name], how.device))
    return rates


def enough(work: Work, how: Conditions) -> int:
    """So many runs that they take about a turn. What is compiled or chosen only once is done then."""
    for _ in range(2):
        work()
    return max(1, round(how.turn_s * per_second(work, 2, how.device)))


def per_second(work: Work, runs: int, device: torch.device) -> float:
    """Runs a second."""
    synchronize(device)
    began = time.perf_counter()
    for _ in range(runs):
        work()
    synchronize(device)
    return runs / (time.perf_counter() - began)


def synchronize(device: torch.device) -> None:
    """Wait for the GPU, if it is one."""
    if device.type == "cuda":
        torch.cuda.synchronize()


def quotients(over: Sequence[float], under: Sequence[float]) -> list[float]:
    """Turn by turn."""
    return [a / b for a, b in zip(over, under, strict=True)]


def rounded(values: Sequence[float], times: float = 1.0) -> list[float]:
    """As a result keeps them."""
    return [round(value * times, 3) for value in values]


def flop(work: Work) -> int:
    """Of convolutions and matrix products, backward ones too; nothing compiled can be counted."""
    with FlopCounterMode(display=False) as counter:
        work()
    return int(counter.get_total_flops())


@contextmanager
def kernels_by_trial() -> Iterator[None]:
    """cuDNN tries its kernels for each new convolution and keeps the fastest, instead of guessing."""
    before, torch.backends.cudnn.benchmark = torch.backends.cudnn.benchmark, True
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = before


def write(row: Row, also: Mapping[str, float], folder: Path) -> None:
    """FOLDER/NAME.json. `also`: the ratios of what else was tried."""
    spread = {"lowest": row.lowest, "highest": row.highest}
    about = {"machine": machine(), "versions": versions(), "commit": commit()}
    result = {"ratio": row.ratio, "bar": row.bar, "spread": spread, **about, **row.figures, "also": dict(also)}
    # A part may be broken off at any time.
    (partial := folder / f"{row.name}.partial").write_text(json.dumps(result, indent=2) + "\n")
    partial.replace(folder / f"{row.name}.json")


def device_name() -> str:
    """The GPU's own; the processor where there is none."""
    return torch.cuda.get_device_name() if torch.cuda.is_available() else platform.processor() or "cpu"


def machine() -> dict[str, object]:
    """What the figures were measured on."""
    if not torch.cuda.is_available():
        return {"gpu": None, "cpu": device_name()}
    facts = torch.cuda.get_device_properties()
    memory_gib = round(facts.total_memory / 2**30, 1)
    asked = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    own = {"gpu": device_name(), "multiprocessors": facts.multi_processor_count, "memory_gib": memory_gib}
    return {**own, "driver": _said(asked), "cuda": torch.version.cuda, "cudnn": torch.backends.cudnn.version()}


def versions() -> dict[str, str]:
    """Of what computes."""
    found = {d.name: d.version for d in importlib.metadata.distributions() if d.name in ("numpy", "triton")}
    return {"python": platform.python_version(), "torch": torch.__version__, **found}


def commit() -> str:
    """Of the repository; "" in a copy without one."""
    return _said(["git", "-C", str(ROOT), "rev-parse", "HEAD"])


def _said(command: list[str]) -> str:
    """What a program that may not be there prints."""
    if shutil.which(command[0]) is None:
        return ""
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
