"""Sample pictures for watching a training."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from dancedist.arrays import Rgb
from dancedist.data.crops import pair_views
from dancedist.data.pairs import TargetData
from dancedist.data.tensors import to_pictures, to_tensor
from dancedist.files import atomic_write
from dancedist.models.step import rollout
from dancedist.recipe.schema import Recipe

_SAMPLES = 6


def sample_pairs(pairs: NDArray[np.int64]) -> NDArray[np.int64]:
    """Choose a few pairs, evenly spaced: int64 (N,) frame indices -> (M,), M <= 6."""
    return np.asarray(pairs[np.linspace(0, len(pairs) - 1, min(_SAMPLES, len(pairs))).round().astype(int)], np.int64)


def write_rows(rows: Sequence[Tensor], path: Path) -> None:
    """Write a PNG of rows of pictures, each float (N, 3, h, w) in [-1, 1]."""
    rgb = np.concatenate([np.concatenate(list(to_pictures(row)), axis=1) for row in rows], axis=0)
    with atomic_write(path) as partial:
        cv2.imwrite(str(partial), rgb[..., ::-1])


@torch.no_grad()
def render_samples(
    generator: nn.Module, data: TargetData, recipe: Recipe, background: Rgb | None, t: NDArray[np.int64]
) -> tuple[Tensor, Tensor, Tensor]:
    """Skeletons, results and truth, float32 (N, 3, h, w) in [-1, 1], of pairs that end at frames `t`, int64 (N,).

    `background` is uint8 RGB (h, w, 3) in the size of the pictures.
    """
    views = pair_views(data.poses, t, recipe)
    figures, truth = data.batch(t, views)
    device = next(generator.parameters()).device
    crops = None if background is None else to_tensor(np.stack([view.crop(background) for view in views])).to(device)
    results = []
    # One by one: together they would take more memory than a training step.
    for i in range(len(t)):
        crop = None if crops is None else crops[i : i + 1]
        results.append(rollout(partial(generator, background_B3HW=crop), figures[i : i + 1].to(device))[:, 1])
    return figures[:, 1], torch.cat(results), truth[:, 1]


def write_samples(generator: nn.Module, data: TargetData, recipe: Recipe, background: Rgb | None, path: Path) -> None:
    """Write a PNG with rows skeleton, result, truth for pairs of the validation block.

    `background` is uint8 RGB (h, w, 3) at the network's size.
    """
    t = sample_pairs(data.pairs(data.split.validation))
    if len(t):
        write_rows(render_samples(generator, data, recipe, background, t), path)
