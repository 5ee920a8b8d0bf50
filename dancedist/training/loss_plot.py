"""Plot of the losses of a training."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from dancedist.files import atomic_write


def plot_losses(log: Path, path: Path) -> None:
    """Write a PNG of every loss in the log over the steps, with its running mean."""
    rows = [json.loads(line) for line in log.read_text().splitlines()]
    names = dict.fromkeys(name for row in rows for name in row if name != "step")
    figure = Figure(figsize=(9, 5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    mean_over = max(1, len(rows) // 40)
    for name in names:
        points = [(row["step"], row[name]) for row in rows if name in row]
        steps, values = np.array(points).T
        (line,) = axes.plot(steps, values, alpha=0.25, linewidth=0.8)
        width = min(mean_over, len(values))
        smooth = np.convolve(values, np.ones(width) / width, mode="valid")
        axes.plot(steps[len(steps) - len(smooth) :], smooth, color=line.get_color(), label=name)
    axes.set(xlabel="step", ylabel="weighted loss", yscale="log")
    axes.legend(ncols=3, fontsize=8)
    axes.grid(alpha=0.3)
    figure.canvas.draw()
    rgba = np.asarray(figure.canvas.buffer_rgba())  # type: ignore[attr-defined]
    with atomic_write(path) as partial:
        cv2.imwrite(str(partial), rgba[..., 2::-1])
