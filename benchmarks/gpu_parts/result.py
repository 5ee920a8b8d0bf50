"""Results of benchmarks/gpu.py: a row of its table, the conditions of a measurement, and the result file."""

from __future__ import annotations

import importlib.metadata
import json
import platform
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import torch

from benchmarks.gpu_parts.networks import Shape, tiny_of

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Row:
    """A measured claim: the median over the turns and their spread. `ratio` is the improvement, `bar` the claimed one.

    `figures["means"]`: the variant that was measured, if a part tries several.
    """

    name: str
    ratio: float
    bar: float
    lowest: float
    highest: float
    figures: dict[str, Any]

    @classmethod
    def of(cls, name: str, bar: float, ratios: Sequence[float], figures: dict[str, Any]) -> Row:
        """Make a row from the ratios of the turns."""
        return cls(name, *(round(r, 3) for r in (median(ratios), bar, min(ratios), max(ratios))), figures)

    def __str__(self) -> str:
        spread, variant = f"{self.lowest:.2f} to {self.highest:.2f}", self.figures.get("means", "")
        return f"{self.name:26s}{self.ratio:8.2f}{self.bar:8.2f}   {spread:18s}{variant}"


@dataclass(frozen=True)
class Conditions:
    """How a part measures. `tiny`: small networks and nothing compiled, only to check that it runs."""

    device: torch.device
    tiny: bool = False
    weights: Path | None = None

    @property
    def turns(self) -> int:
        """Turns of each side."""
        return 2 if self.tiny else 5

    @property
    def turn_s(self) -> float:
        """Approximate seconds of a turn."""
        return 0.01 if self.tiny else 0.6

    def shape(self, shape: Shape) -> Shape:
        """The networks to measure: the given ones, or tiny ones."""
        return tiny_of(shape) if self.tiny else shape


def write(row: Row, ratios: Mapping[str, float], folder: Path) -> None:
    """Write FOLDER/NAME.json, with the ratios of all variants that were tried."""
    spread = {"lowest": row.lowest, "highest": row.highest}
    about = {"machine": machine(), "versions": versions(), "commit": commit()}
    result = {"ratio": row.ratio, "bar": row.bar, "spread": spread, **about, **row.figures, "also": dict(ratios)}
    # A part may be interrupted at any time, so the file is replaced atomically.
    (partial := folder / f"{row.name}.partial").write_text(json.dumps(result, indent=2) + "\n")
    partial.replace(folder / f"{row.name}.json")


def device_name() -> str:
    """Name of the GPU, or of the processor if there is none."""
    return torch.cuda.get_device_name() if torch.cuda.is_available() else platform.processor() or "cpu"


def machine() -> dict[str, object]:
    """Describe the machine that measures."""
    if not torch.cuda.is_available():
        return {"gpu": None, "cpu": device_name()}
    facts = torch.cuda.get_device_properties()
    memory_gib = round(facts.total_memory / 2**30, 1)
    driver = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    gpu = {"gpu": device_name(), "multiprocessors": facts.multi_processor_count, "memory_gib": memory_gib}
    return {**gpu, "driver": _output(driver), "cuda": torch.version.cuda, "cudnn": torch.backends.cudnn.version()}


def versions() -> dict[str, str]:
    """Versions of the packages that compute."""
    packages = {d.name: d.version for d in importlib.metadata.distributions() if d.name in ("numpy", "triton")}
    return {"python": platform.python_version(), "torch": torch.__version__, **packages}


def commit() -> str:
    """Commit of the repository; "" in a copy without .git."""
    return _output(["git", "-C", str(ROOT), "rev-parse", "HEAD"])


def _output(command: list[str]) -> str:
    """Standard output of a program; "" if it is not installed."""
    if shutil.which(command[0]) is None:
        return ""
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
