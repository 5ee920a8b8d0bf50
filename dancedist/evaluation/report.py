"""The table of results: means per method, as JSON and on the screen."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from rich.console import Group
from rich.table import Table
from rich.text import Text

from dancedist.evaluation.score import Scores
from dancedist.files import published


@dataclass(frozen=True)
class Metric:
    """How a number is told: two lines of title with its unit, which direction is better, decimals."""

    over: str
    title: str
    better: Literal["higher", "lower"]
    decimals: int

    @property
    def name(self) -> str:
        """Title in one line."""
        return f"{self.over} {self.title}".strip()


METRICS = {
    "body_ssim": Metric("body", "SSIM", "higher", 4),
    "body_psnr_db": Metric("body", "PSNR dB", "higher", 2),
    "body_lpips": Metric("body", "LPIPS", "lower", 4),
    "face_ssim": Metric("face", "SSIM", "higher", 4),
    "face_psnr_db": Metric("face", "PSNR dB", "higher", 2),
    "face_lpips": Metric("face", "LPIPS", "lower", 4),
    "pose_distance_px": Metric("pose dist.", "px", "lower", 2),
    "pose_distance_torsos": Metric("pose dist.", "torsos", "lower", 4),
    "missed_detections": Metric("missed", "per image", "lower", 2),
    "tof_px": Metric("", "tOF px", "lower", 3),
    "tlp": Metric("", "tLP", "lower", 4),
    "warping_error": Metric("warping", "error", "lower", 6),
}
_PICTURE = ("body_ssim", "body_psnr_db", "body_lpips", "face_ssim", "face_psnr_db", "face_lpips")


@dataclass(frozen=True)
class Measure:
    """A mean and how many frames it is over; NaN over 0 frames."""

    value: float
    frames: int


@dataclass(frozen=True)
class Report:
    """method -> metric (a key of METRICS) -> mean, over `frames` frames at most."""

    frames: int
    methods: dict[str, dict[str, Measure]]

    def to_dict(self) -> dict[str, Any]:
        """JSON-able; an undefined mean is null."""
        methods = {
            method: {k: {"value": m.value if m.frames else None, "frames": m.frames} for k, m in measures.items()}
            for method, measures in self.methods.items()
        }
        return {"frames": self.frames, "methods": methods}

    @classmethod
    def from_dict(cls, plain: dict[str, Any]) -> Report:
        """What `to_dict` gave."""
        methods = {
            method: {
                k: Measure(float("nan") if m["value"] is None else m["value"], m["frames"]) for k, m in each.items()
            }
            for method, each in plain["methods"].items()
        }
        return cls(plain["frames"], methods)


def means(report: Report) -> dict[str, dict[str, float]]:
    """method -> metric -> mean, rounded as the table shows it; what is undefined is left out."""
    return {
        method: {k: round(m.value, METRICS[k].decimals) for k, m in measures.items() if m.frames}
        for method, measures in report.methods.items()
    }


def summarise(scores: Scores, keep: NDArray[np.bool_] | None = None) -> Report:
    """Means over the frames where a metric is defined; `keep` (T,) picks frames (the seams, say)."""
    lengths = {len(values) for metrics in scores.values() for values in metrics.values()}
    assert len(lengths) == 1, lengths
    picked = np.ones(lengths.pop(), np.bool_) if keep is None else keep
    # In METRICS' order, and every metric for every method where any has it.
    known = [k for k in METRICS if any(k in metrics for metrics in scores.values())]
    nothing = np.full(len(picked), np.nan)
    methods = {name: {k: _mean(metrics.get(k, nothing)[picked]) for k in known} for name, metrics in scores.items()}
    return Report(int(picked.sum()), methods)


def write_report(report: Report, path: Path) -> None:
    """Write JSON; the file appears whole or not at all."""
    with published(path) as partial:
        partial.write_text(json.dumps(report.to_dict(), indent=2, allow_nan=False) + "\n")


def where_it_loses(report: Report, method: str) -> list[str]:
    """One line for each metric and other method that `method` is behind of, and by how much."""
    lines = []
    for key, mine in report.methods[method].items():
        metric = METRICS[key]
        for other, measures in report.methods.items():
            theirs = measures[key]
            if other == method or not mine.frames or not theirs.frames:
                continue
            behind = (theirs.value - mine.value) * (1 if metric.better == "higher" else -1)
            if behind > 0:
                values = f"{mine.value:.{metric.decimals}f} to {theirs.value:.{metric.decimals}f}"
                lines.append(f"{metric.name}: {method} loses to {other} by {behind:.{metric.decimals}f} ({values})")
    return lines


def table(report: Report) -> Group:
    """For rich: methods as rows; an arrow says which way is better, bold is best. Fits 80 columns."""
    known = next(iter(report.methods.values()), {})
    parts = [[k for k in known if (k in _PICTURE) == picture] for picture in (True, False)]
    tables = [_table(report, keys) for keys in parts if keys]
    notes = [Text(line, style="dim") for line in _counts(report)]
    return Group(*(part for drawn in tables for part in (drawn, Text())), *notes)


def _table(report: Report, keys: list[str]) -> Table:
    drawn = Table(box=None, pad_edge=False, header_style="")
    drawn.add_column("", no_wrap=True)
    for key in keys:
        arrow = "↑" if METRICS[key].better == "higher" else "↓"
        drawn.add_column(f"{METRICS[key].over}\n{METRICS[key].title} {arrow}", justify="right", no_wrap=True)
    best = {key: _best(report, key) for key in keys}
    for method, measures in report.methods.items():
        cells = [
            Text(_told(key, measures[key]), style="bold" if measures[key].value == best[key] else "") for key in keys
        ]
        drawn.add_row(method, *cells)
    return drawn


def _told(key: str, measure: Measure) -> str:
    return f"{measure.value:.{METRICS[key].decimals}f}" if measure.frames else "-"


def _best(report: Report, key: str) -> float | None:
    values = [measures[key].value for measures in report.methods.values() if measures[key].frames]
    if len(report.methods) < 2 or not values:
        return None
    return max(values) if METRICS[key].better == "higher" else min(values)


def _counts(report: Report) -> Iterator[str]:
    """Which means are over fewer than all frames."""
    groups: dict[tuple[int, ...], list[str]] = {}
    for key in next(iter(report.methods.values()), {}):
        counts = tuple(measures[key].frames for measures in report.methods.values())
        if set(counts) != {report.frames}:
            groups.setdefault(counts if len(set(counts)) > 1 else counts[:1], []).append(METRICS[key].name)
    for numbers, names in groups.items():
        each = zip(report.methods, numbers, strict=False)
        told = str(numbers[0]) if len(numbers) == 1 else ", ".join(f"{method} {n}" for method, n in each)
        yield f"over {told} of {report.frames} frames: {', '.join(names)}"


def _mean(values: NDArray[np.float64]) -> Measure:
    defined = values[np.isfinite(values)]
    return Measure(float(defined.mean()) if len(defined) else float("nan"), len(defined))
