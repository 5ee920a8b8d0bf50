"""Reports: means of the scores per method, as JSON and as a table."""

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
from dancedist.files import atomic_write


@dataclass(frozen=True)
class Metric:
    """How a metric is shown.

    `over` and `title`: two lines of heading, with the unit. `better`: which direction is better. `part`: the part of
    the table that it stands in; picture metrics compare frames, motion metrics compare poses and changes.
    """

    over: str
    title: str
    better: Literal["higher", "lower"]
    decimals: int
    part: Literal["picture", "motion"]

    @property
    def name(self) -> str:
        """The heading in one line."""
        return f"{self.over} {self.title}".strip()


METRICS = {
    "body_ssim": Metric("body", "SSIM", "higher", 4, "picture"),
    "body_psnr_db": Metric("body", "PSNR dB", "higher", 2, "picture"),
    "body_lpips": Metric("body", "LPIPS", "lower", 4, "picture"),
    "face_ssim": Metric("face", "SSIM", "higher", 4, "picture"),
    "face_psnr_db": Metric("face", "PSNR dB", "higher", 2, "picture"),
    "face_lpips": Metric("face", "LPIPS", "lower", 4, "picture"),
    "pose_distance_px": Metric("pose dist.", "px", "lower", 2, "motion"),
    "pose_distance_torsos": Metric("pose dist.", "torsos", "lower", 4, "motion"),
    "missed_detections": Metric("missed", "per image", "lower", 2, "motion"),
    "tof_px": Metric("", "tOF px", "lower", 3, "motion"),
    "tlp": Metric("", "tLP", "lower", 4, "motion"),
    "warping_error": Metric("warping", "error", "lower", 6, "motion"),
}


@dataclass(frozen=True)
class Measure:
    """A mean and the number of frames it is over; NaN for 0 frames."""

    value: float
    frames: int


@dataclass(frozen=True)
class Report:
    """Means by method and metric (a key of METRICS), over `frames` frames at most."""

    frames: int
    methods: dict[str, dict[str, Measure]]

    def to_dict(self) -> dict[str, Any]:
        """Convert to JSON types; an undefined mean is null."""
        methods = {
            method: {k: {"value": m.value if m.frames else None, "frames": m.frames} for k, m in measures.items()}
            for method, measures in self.methods.items()
        }
        return {"frames": self.frames, "methods": methods}

    @classmethod
    def from_dict(cls, plain: dict[str, Any]) -> Report:
        """Inverse of `to_dict`."""
        methods = {
            method: {
                k: Measure(float("nan") if m["value"] is None else m["value"], m["frames"]) for k, m in measures.items()
            }
            for method, measures in plain["methods"].items()
        }
        return cls(plain["frames"], methods)


def means(report: Report) -> dict[str, dict[str, float]]:
    """Defined means by method and metric, rounded as in the table."""
    return {
        method: {k: round(m.value, METRICS[k].decimals) for k, m in measures.items() if m.frames}
        for method, measures in report.methods.items()
    }


def summarise(scores: Scores, keep: NDArray[np.bool_] | None = None) -> Report:
    """Average the scores over the frames where each is defined.

    `keep`, bool (T,): which frames count (only those at seams, for example); all by default.
    """
    lengths = {len(values) for metrics in scores.values() for values in metrics.values()}
    assert len(lengths) == 1, lengths
    mask = np.ones(lengths.pop(), np.bool_) if keep is None else keep
    # In the order of METRICS; a metric that any method has is reported for all.
    keys = [k for k in METRICS if any(k in metrics for metrics in scores.values())]
    undefined = np.full(len(mask), np.nan)
    methods = {name: {k: _mean(metrics.get(k, undefined)[mask]) for k in keys} for name, metrics in scores.items()}
    return Report(int(mask.sum()), methods)


def write_report(report: Report, path: Path) -> None:
    """Write the report as JSON, atomically."""
    with atomic_write(path) as partial:
        partial.write_text(json.dumps(report.to_dict(), indent=2, allow_nan=False) + "\n")


def where_it_loses(report: Report, method: str) -> list[str]:
    """One line for each metric and other method by which `method` is beaten, with the difference."""
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
    """Format for rich: a row per method, an arrow for the better direction, the best value bold. Fits 80 columns."""
    reported = next(iter(report.methods.values()), {})
    parts = [[k for k in reported if METRICS[k].part == part] for part in ("picture", "motion")]
    tables = [_table(report, keys) for keys in parts if keys]
    notes = [Text(line, style="dim") for line in _counts(report)]
    return Group(*(part for one in tables for part in (one, Text())), *notes)


def _table(report: Report, keys: list[str]) -> Table:
    grid = Table(box=None, pad_edge=False, header_style="")
    grid.add_column("", no_wrap=True)
    for key in keys:
        arrow = "↑" if METRICS[key].better == "higher" else "↓"
        grid.add_column(f"{METRICS[key].over}\n{METRICS[key].title} {arrow}", justify="right", no_wrap=True)
    best = {key: _best(report, key) for key in keys}
    for method, measures in report.methods.items():
        cells = [
            Text(_format(key, measures[key]), style="bold" if measures[key].value == best[key] else "") for key in keys
        ]
        grid.add_row(method, *cells)
    return grid


def _format(key: str, measure: Measure) -> str:
    return f"{measure.value:.{METRICS[key].decimals}f}" if measure.frames else "-"


def _best(report: Report, key: str) -> float | None:
    values = [measures[key].value for measures in report.methods.values() if measures[key].frames]
    if len(report.methods) < 2 or not values:
        return None
    return max(values) if METRICS[key].better == "higher" else min(values)


def _counts(report: Report) -> Iterator[str]:
    """Notes on the means that are over fewer than all frames."""
    groups: dict[tuple[int, ...], list[str]] = {}
    for key in next(iter(report.methods.values()), {}):
        counts = tuple(measures[key].frames for measures in report.methods.values())
        if set(counts) != {report.frames}:
            groups.setdefault(counts if len(set(counts)) > 1 else counts[:1], []).append(METRICS[key].name)
    for numbers, names in groups.items():
        each = zip(report.methods, numbers, strict=False)
        counts_text = str(numbers[0]) if len(numbers) == 1 else ", ".join(f"{method} {n}" for method, n in each)
        yield f"over {counts_text} of {report.frames} frames: {', '.join(names)}"


def _mean(values: NDArray[np.float64]) -> Measure:
    defined = values[np.isfinite(values)]
    return Measure(float(defined.mean()) if len(defined) else float("nan"), len(defined))
