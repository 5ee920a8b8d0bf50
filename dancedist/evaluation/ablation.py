"""The ablation study: the paper's tables 1-4 for several recipes and seeds, as Markdown, JSON and a plot."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from dancedist.evaluation.report import METRICS, Report
from dancedist.files import atomic_write

# The paper's tables (v1), then metrics that the paper does not have.
TABLES = {
    "Table 1: body": ("body_ssim", "body_lpips"),
    "Table 2: face": ("face_ssim", "face_lpips"),
    "Table 3: pose distance": ("pose_distance_px",),
    "Table 4: missed detections": ("missed_detections",),
    "Motion": ("tof_px", "tlp", "warping_error"),
}
KEYS = tuple(key for keys in TABLES.values() for key in keys)
# Row of the table -> seed -> metric -> mean over the held-out frames.
Values = Mapping[str, Mapping[int, Mapping[str, float]]]


def values_of(reports: Mapping[str, Mapping[int, Report]], method: str, baseline: str) -> dict[str, Any]:
    """Collect the means of `method` from reports by row and seed.

    The first row is the baseline, with the first seed only: training does not change it.
    """
    rows = {row: {seed: _means(report, method) for seed, report in seeds.items()} for row, seeds in reports.items()}
    seed, first = next(iter(next(iter(reports.values())).items()))
    return {baseline: {seed: _means(first, baseline)}, **rows}


def gains(values: Values, key: str) -> dict[str, dict[int, float]]:
    """Improvement of each row over the row above it, seed by seed (positive is better).

    The first two rows have none: the first is the baseline, the second the recipe that the others build on.
    """
    sign = 1 if METRICS[key].better == "higher" else -1
    rows = [*values][1:]
    return {
        below: {s: sign * (values[below][s][key] - values[above][s][key]) for s in values[below] if s in values[above]}
        for above, below in pairwise(rows)
    }


def to_markdown(values: Values, about: str) -> str:
    """Format all tables: mean and standard deviation over the seeds, and the sign of every seed's gain."""
    lines = [about, ""]
    for title, keys in TABLES.items():
        heads = [f"{METRICS[k].over} {METRICS[k].title} {'↑' if METRICS[k].better == 'higher' else '↓'}" for k in keys]
        lines += [f"**{title}**", "", f"| | {' | '.join(heads)} |", "|---" * (len(keys) + 1) + "|"]
        lines += [f"| {row} | {' | '.join(_cell(seeds, k) for k in keys)} |" for row, seeds in values.items()]
        lines.append("")
    lines += ["**Against the row above, seed by seed** (+ is better)", ""]
    lines += ["| | " + " | ".join(METRICS[k].name for k in KEYS) + " |", "|---" * (len(KEYS) + 1) + "|"]
    for row in [*values][2:]:
        lines.append(f"| {row} | {' | '.join(_signs(gains(values, k)[row]) for k in KEYS)} |")
    return "\n".join(lines) + "\n"


def write_ablation(values: Values, about: str, folder: Path) -> None:
    """Write ablation.md, ablation.json and ablation.png into a folder, each atomically."""
    plain = {
        "about": about,
        "rows": {row: {str(seed): dict(means) for seed, means in seeds.items()} for row, seeds in values.items()},
        "gains": {key: {r: {str(s): v for s, v in g.items()} for r, g in gains(values, key).items()} for key in KEYS},
    }
    for name, text in (
        ("ablation.md", to_markdown(values, about)),
        ("ablation.json", json.dumps(_finite(plain), indent=2)),
    ):
        with atomic_write(folder / name) as partial:
            partial.write_text(text)
    with atomic_write(folder / "ablation.png") as partial:
        _plot(values).savefig(partial)


def _plot(values: Values) -> Figure:
    """Plot every metric over the rows: a dot per seed, a line through the means, a dashed line for the baseline."""
    figure = Figure(figsize=(11, 6), layout="constrained")
    FigureCanvasAgg(figure)
    rows = [*values]
    for axes, key in zip(figure.subplots(3, 3).flat, KEYS, strict=True):
        for x, row in enumerate(rows[1:]):
            of_seeds = [means[key] for means in values[row].values()]
            axes.plot([x] * len(of_seeds), of_seeds, "o", alpha=0.5, color="tab:blue")
        row_means = [float(np.mean([means[key] for means in values[row].values()])) for row in rows[1:]]
        axes.plot(range(len(row_means)), row_means, color="tab:blue")
        axes.axhline(next(iter(values[rows[0]].values()))[key], linestyle="--", color="grey", linewidth=1)
        axes.set_xticks(range(len(row_means)), rows[1:], fontsize=7)
        axes.set_title(f"{METRICS[key].name} ({METRICS[key].better} is better)", fontsize=9)
        axes.grid(alpha=0.3)
    figure.suptitle(f"dashed: {rows[0]}", fontsize=9)
    return figure


def _means(report: Report, method: str) -> dict[str, float]:
    measures = report.methods[method]
    return {key: measures[key].value if key in measures else float("nan") for key in KEYS}


def _cell(seeds: Mapping[int, Mapping[str, float]], key: str) -> str:
    """Mean over the seeds, with the standard deviation if there are several."""
    of_seeds, decimals = [means[key] for means in seeds.values()], METRICS[key].decimals
    spread = f" ± {np.std(of_seeds, ddof=1):.{decimals}f}" if len(of_seeds) > 1 else ""
    return f"{np.mean(of_seeds):.{decimals}f}{spread}"


def _signs(by_seed: Mapping[int, float]) -> str:
    """One sign per seed, "?" for an undefined gain."""
    return " ".join(
        "?" if np.isnan(gain) else "+" if gain > 0 else "-" if gain < 0 else "0" for gain in by_seed.values()
    )


def _finite(plain: Any) -> Any:
    """Replace NaN by None: JSON has no NaN."""
    if isinstance(plain, dict):
        return {key: _finite(value) for key, value in plain.items()}
    return None if isinstance(plain, float) and not np.isfinite(plain) else plain


def seeds_better(by_seed: Mapping[int, float]) -> Sequence[int]:
    """The seeds with a positive gain."""
    return [seed for seed, gain in by_seed.items() if gain > 0]
