"""What is looked at while training runs: sample pictures and the loss plot."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor, nn

from dancedist.data.crops import pair_views
from dancedist.data.pairs import TargetData, to_pictures, to_tensor
from dancedist.files import published
from dancedist.models.step import rollout
from dancedist.recipe import Recipe

_SHOWN = 6

Rgb = NDArray[np.uint8]


def picked(pairs: NDArray[np.int64]) -> NDArray[np.int64]:
    """A few of them, spread evenly."""
    return np.asarray(pairs[np.linspace(0, len(pairs) - 1, min(_SHOWN, len(pairs))).round().astype(int)], np.int64)


def write_rows(rows: Sequence[Tensor], path: Path) -> None:
    """PNG of rows of pictures, each (N, 3, h, w) in [-1, 1]."""
    _publish(path, np.concatenate([np.concatenate(list(to_pictures(row)), axis=1) for row in rows], axis=0))


@torch.no_grad()
def sampled(
    generator: nn.Module, data: TargetData, recipe: Recipe, stage: Rgb | None, t: NDArray[np.int64]
) -> tuple[Tensor, Tensor, Tensor]:
    """Figures, results and truth, (N, 3, h, w) in [-1, 1], of pairs that end at frames `t`; `stage` in their size."""
    views = pair_views(data.poses, t, recipe)
    figures, truth = data.batch(t, views)
    device = next(generator.parameters()).device
    backdrop = None if stage is None else to_tensor(np.stack([view.look(stage) for view in views])).to(device)
    results = []
    # One after the other: together they would take more memory than a step of training.
    for i in range(len(t)):
        behind = None if backdrop is None else backdrop[i : i + 1]
        results.append(rollout(partial(generator, backdrop_B3HW=behind), figures[i : i + 1].to(device))[:, 1])
    return figures[:, 1], torch.cat(results), truth[:, 1]


def write_samples(generator: nn.Module, data: TargetData, recipe: Recipe, stage: Rgb | None, path: Path) -> None:
    """PNG with rows figure, result, truth for pairs spread over the validation block; `stage` at the network's size."""
    t = picked(data.pairs(data.split.validation))
    if len(t):
        write_rows(sampled(generator, data, recipe, stage, t), path)


def plot_losses(log: Path, path: Path) -> None:
    """PNG of every loss in the log over the steps, with its running mean."""
    rows = [json.loads(line) for line in log.read_text().splitlines()]
    names = dict.fromkeys(name for row in rows for name in row if name != "step")
    figure = Figure(figsize=(9, 5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    window = max(1, len(rows) // 40)
    for name in names:
        own = [(row["step"], row[name]) for row in rows if name in row]
        steps, values = np.array(own).T
        (line,) = axes.plot(steps, values, alpha=0.25, linewidth=0.8)
        width = min(window, len(values))
        smooth = np.convolve(values, np.ones(width) / width, mode="valid")
        axes.plot(steps[len(steps) - len(smooth) :], smooth, color=line.get_color(), label=name)
    axes.set(xlabel="step", ylabel="weighted loss", yscale="log")
    axes.legend(ncols=3, fontsize=8)
    axes.grid(alpha=0.3)
    figure.canvas.draw()
    rgba = np.asarray(figure.canvas.buffer_rgba())  # type: ignore[attr-defined]
    _publish(path, rgba[..., :3])


def _publish(path: Path, rgb: NDArray[np.uint8]) -> None:
    with published(path) as partial:
        cv2.imwrite(str(partial), rgb[..., ::-1])
