"""A trained generator for the rendering parts of benchmarks/gpu.py.

Random weights cannot be used: fed with its own last picture, such a generator amplifies a rounding error about sixfold
per frame. A trained one damps it, even after a few hundred steps.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.gpu_parts.networks import Shape, generator_of
from benchmarks.gpu_parts.result import Conditions
from benchmarks.gpu_parts.training import FastTraining
from dancedist.models.generator import Generator

TRAINING_STEPS, BATCH_PAIRS, FRAMES = 300, 4, 128
# A short training needs an L1 loss, as in presets/quick.toml.
L1 = 30.0
_STICKS = 12


def dancer(shape: Shape, conditions: Conditions) -> Generator:
    """A generator with the weights of `--weights`, or one that is trained now."""
    generator = generator_of(shape, conditions.device).eval()
    if conditions.weights is None:
        weights = train_weights(shape, conditions)
    else:
        from safetensors.torch import load_file

        weights = load_file(conditions.weights)
    generator.load_state_dict(weights)
    return generator


def train_weights(shape: Shape, conditions: Conditions) -> dict[str, Tensor]:
    """Train a generator for TRAINING_STEPS steps on drawn pairs; returns its weights."""
    training = FastTraining(replace(shape, weights=replace(shape.weights, l1=L1)), conditions.device)
    figures = as_floats(moving_figures(FRAMES, 1, shape).flatten(0, 1).to(conditions.device))
    truth, rng = draw_truth(figures), np.random.default_rng(1)
    for _ in range(2 if conditions.tiny else TRAINING_STEPS):
        t = torch.from_numpy(rng.integers(1, FRAMES, BATCH_PAIRS))
        training.step(*(torch.stack([p[t - 1], p[t]], 1) for p in (figures, truth)))
    return training.generator.state_dict()


def draw_truth(figures_N3HW: Tensor) -> Tensor:
    """Draw the true pictures, float32 (N, 3, H, W) in [-1, 1]: soft limbs on a background that is darker above."""
    radius = figures_N3HW.shape[-2] // 32
    wide = F.max_pool2d(figures_N3HW, 2 * radius + 1, 1, radius)
    limbs = F.avg_pool2d(wide, 2 * radius + 1, 1, radius, count_include_pad=False)
    background = torch.linspace(-0.8, 0.2, figures_N3HW.shape[-2], device=figures_N3HW.device)
    return torch.maximum(limbs, background[:, None])


def as_floats(picture_BHW3: Tensor) -> Tensor:
    """Convert uint8 RGB (B, H, W, 3) to float32 (B, 3, H, W) in [-1, 1]."""
    return picture_BHW3.permute(0, 3, 1, 2).float() / 127.5 - 1


def as_bytes(picture_B3HW: Tensor) -> Tensor:
    """Convert float (B, 3, H, W) in [-1, 1] to uint8 RGB (B, H, W, 3), rounded as recipe_2019 does."""
    return ((picture_B3HW.permute(0, 2, 3, 1) + 1) * 127.5).clamp(0, 255).byte()


def moving_figures(frames: int, batch: int, shape: Shape) -> Tensor:
    """Coloured sticks that swing on black, uint8 RGB (T, B, H, W, 3), similar to stick figures of a dancer."""
    rng, (height, width) = np.random.default_rng(0), (shape.height, shape.width)
    colours = rng.integers(64, 256, (_STICKS, 3))
    starts, phases = rng.uniform(0.3, 0.7, (_STICKS, 2)), rng.uniform(0, 2 * np.pi, (batch, _STICKS))
    figures = np.zeros((frames, batch, height, width, 3), np.uint8)
    along = np.linspace(0, 0.25, 2 * max(height, width))
    for t, b, i in np.ndindex(frames, batch, _STICKS):
        angle = phases[b, i] + np.sin(t / 8 + i)
        y, x = (starts[i, :, None] + along * np.array([[np.sin(angle)], [np.cos(angle)]])) * [[height], [width]]
        for offset in range(max(1, height // 64)):
            figures[t, b, np.clip(y.astype(int) + offset, 0, height - 1), np.clip(x.astype(int), 0, width - 1)] = (
                colours[i]
            )
    return torch.from_numpy(figures)
