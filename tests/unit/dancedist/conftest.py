"""Fixtures: textures shifted by whole pixels, random poses, and an AlexNet of seeded noise."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

import cv2
import numpy as np
import pytest
import torch

from dancedist.arrays import Rgb
from dancedist.metrics.lpips import Lpips
from dancedist.pose.sequence import PoseSequence
from dancedist.pose.topology import COCO17


@pytest.fixture(scope="session")
def backbone() -> dict[str, torch.Tensor]:
    """AlexNet's shapes and names; the weights are noise with He's standard deviation."""
    shapes = {0: (64, 3, 11, 11), 3: (192, 64, 5, 5), 6: (384, 192, 3, 3), 8: (256, 384, 3, 3), 10: (256, 256, 3, 3)}
    noise = torch.Generator().manual_seed(0)
    state = {}
    for i, shape in shapes.items():
        fan_in = shape[1] * shape[2] * shape[3]
        state[f"features.{i}.weight"] = (torch.randn(shape, generator=noise) * (2 / fan_in) ** 0.5).half()
        state[f"features.{i}.bias"] = torch.zeros(shape[0]).half()
    return state


@pytest.fixture(scope="session")
def lpips(backbone: dict[str, torch.Tensor]) -> Lpips:
    return Lpips(backbone)


@pytest.fixture(scope="session")
def texture() -> Rgb:
    """Smooth noise of full contrast, uint8 RGB (300, 300, 3)."""
    noise = np.random.default_rng(1).standard_normal((300, 300, 3))
    smooth = cv2.normalize(cv2.GaussianBlur(noise, (0, 0), 2), None, 0, 255, cv2.NORM_MINMAX)
    return smooth.astype(np.uint8)


@pytest.fixture(scope="session")
def moving(texture: Rgb) -> Callable[[int, int, int], Rgb]:
    """moving(count, dx, dy): uint8 RGB (count, 120, 100, 3), the texture moving by (dx, dy) px per frame."""

    def film(count: int, dx: int, dy: int) -> Rgb:
        corners = [(100 - dy * t, 100 - dx * t) for t in range(count)]
        return np.stack([texture[y : y + 120, x : x + 100] for y, x in corners])

    return film


@pytest.fixture
def poses() -> Callable[..., PoseSequence]:
    """poses(count, seed): random complete poses in a 100 x 120 picture."""

    def make(count: int, seed: int = 0) -> PoseSequence:
        xy = np.random.default_rng(seed).uniform((10, 10), (90, 110), (count, len(COCO17), 2)).astype(np.float32)
        return PoseSequence(xy, np.ones(xy.shape[:2], np.float32), COCO17, Fraction(25), (100, 120))

    return make
