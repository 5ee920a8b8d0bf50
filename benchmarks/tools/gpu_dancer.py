"""A drawn dancer whom benchmarks/gpu.py renders: weights that never learnt rendering are no dancer's.

Fed with its own last picture, a generator of random weights makes any rounding some six times as large with each frame.
One that has learnt forgets it, even after some hundred steps.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.tools.gpu_networks import Shape, generator_of
from benchmarks.tools.gpu_part import Conditions
from benchmarks.tools.gpu_training import FastTraining
from dancedist.models.generator import Generator

LESSONS, BATCH_PAIRS, FRAMES = 300, 4, 128
# A short training needs an L1, as in presets/quick.toml.
L1 = 30.0
_STICKS = 12


def dancer(shape: Shape, how: Conditions) -> Generator:
    """The bundle's, or one that is taught now."""
    generator = generator_of(shape, how.device).eval()
    if how.weights is None:
        weights = taught(shape, how)
    else:
        from safetensors.torch import load_file

        weights = load_file(how.weights)
    generator.load_state_dict(weights)
    return generator


def taught(shape: Shape, how: Conditions) -> dict[str, Tensor]:
    """A generator's weights after LESSONS steps."""
    training = FastTraining(replace(shape, weights=replace(shape.weights, l1=L1)), how.device)
    figures = as_floats(moving_figures(FRAMES, 1, shape).flatten(0, 1).to(how.device))
    truth, rng = drawn(figures), np.random.default_rng(1)
    for _ in range(2 if how.tiny else LESSONS):
        t = torch.from_numpy(rng.integers(1, FRAMES, BATCH_PAIRS))
        training.step(*(torch.stack([p[t - 1], p[t]], 1) for p in (figures, truth)))
    return training.generator.state_dict()


def drawn(figures_N3HW: Tensor) -> Tensor:
    """The dancer's pictures: the sticks as soft limbs before a stage that is darker above."""
    reach = figures_N3HW.shape[-2] // 32
    wide = F.max_pool2d(figures_N3HW, 2 * reach + 1, 1, reach)
    limbs = F.avg_pool2d(wide, 2 * reach + 1, 1, reach, count_include_pad=False)
    stage = torch.linspace(-0.8, 0.2, figures_N3HW.shape[-2], device=figures_N3HW.device)
    return torch.maximum(limbs, stage[:, None])


def as_floats(picture_BHW3: Tensor) -> Tensor:
    """Uint8 -> (B, 3, H, W) in [-1, 1]."""
    return picture_BHW3.permute(0, 3, 1, 2).float() / 127.5 - 1


def as_bytes(picture_B3HW: Tensor) -> Tensor:
    """The inverse, rounded as recipe_2019 does."""
    return ((picture_B3HW.permute(0, 2, 3, 1) + 1) * 127.5).clamp(0, 255).byte()


def moving_figures(frames: int, batch: int, shape: Shape) -> Tensor:
    """Coloured sticks that swing on black, uint8 (T, B, H, W, 3): something like a dancer's figure."""
    rng, (height, width) = np.random.default_rng(0), (shape.height, shape.width)
    colours = rng.integers(64, 256, (_STICKS, 3))
    starts, phases = rng.uniform(0.3, 0.7, (_STICKS, 2)), rng.uniform(0, 2 * np.pi, (batch, _STICKS))
    figures = np.zeros((frames, batch, height, width, 3), np.uint8)
    along = np.linspace(0, 0.25, 2 * max(height, width))
    for t, b, i in np.ndindex(frames, batch, _STICKS):
        angle = phases[b, i] + np.sin(t / 8 + i)
        y, x = (starts[i, :, None] + along * np.array([[np.sin(angle)], [np.cos(angle)]])) * [[height], [width]]
        for thick in range(max(1, height // 64)):
            figures[t, b, np.clip(y.astype(int) + thick, 0, height - 1), np.clip(x.astype(int), 0, width - 1)] = (
                colours[i]
            )
    return torch.from_numpy(figures)
