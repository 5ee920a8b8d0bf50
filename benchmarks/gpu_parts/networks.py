"""The presets' networks for benchmarks/gpu.py, which runs without pydantic and so cannot read a recipe.

VGG's weights are random, because they do not affect speed. Quality is measured by benchmarks/training_step.py.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any, cast

import torch
from torch import Tensor

from dancedist.models.build import build_generator
from dancedist.models.generator import Generator
from dancedist.models.losses import Backbone, Perceptual
from dancedist.models.pix2pixhd import Discriminator
from dancedist.models.step import LossWeights

Networks = tuple[Generator, Discriminator, Perceptual]
# Convolutions per stage.
_VGG = {"vgg16": (2, 2, 3, 3, 3), "vgg19": (2, 2, 4, 4, 4)}
_LOCAL_BLOCKS = 3
_PAPER = LossWeights(feature_matching=10.0, perceptual=5.0, l1=0.0)


@dataclass(frozen=True)
class Shape:
    """The settings of a recipe that decide how long a step takes; defaults as in dancedist/recipe/schema.py."""

    height: int
    width: int
    local: bool = False
    filters: int = 64
    downsamplings: int = 4
    blocks: int = 9
    patch: int = 1
    background: bool = False
    discriminator_filters: int = 64
    layers: int = 3
    scales: int = 2
    backbone: Backbone = "vgg19"
    perceptual_stages: int = 5
    perceptual_crop_px: int = 0
    weights: LossWeights = _PAPER
    channels_last: bool = False


FAST_256 = Shape(256, 256, channels_last=True)
FAST_512 = replace(FAST_256, width=512)
# The numbers of recipe.schema.LocalRecipe.
FAST_1024 = replace(FAST_256, height=512, width=1024, local=True, scales=3, weights=replace(_PAPER, perceptual=10.0))
QUICK = Shape(
    96, 160, filters=24, downsamplings=3, blocks=4, patch=2, background=True, discriminator_filters=24,
    backbone="vgg16", perceptual_stages=3, perceptual_crop_px=48, weights=LossWeights(10.0, 10.0, 30.0, 30.0),
)  # fmt: skip


def tiny_of(shape: Shape) -> Shape:
    """A tiny version of the shape."""
    small = replace(shape, height=32, width=48, filters=4, downsamplings=1, blocks=1)
    return replace(
        small, discriminator_filters=4, perceptual_stages=1, perceptual_crop_px=shape.perceptual_crop_px // 3
    )


def build(shape: Shape, device: torch.device) -> Networks:
    """Build generator, discriminator and perceptual loss, float32."""
    # Created on the device: a processor takes seconds to draw so many weights.
    with device:
        discriminator = Discriminator(12, shape.discriminator_filters, shape.layers, shape.scales)
        perceptual = Perceptual(shape.backbone, random_vgg(shape.backbone), shape.perceptual_stages)
    return generator_of(shape, device), discriminator, perceptual


def generator_of(shape: Shape, device: torch.device) -> Generator:
    """Build the generator as training does."""
    stages = ("global", "local") if shape.local else ("global",)
    recipe = SimpleNamespace(stages=stages, generator=shape, local=SimpleNamespace(blocks=_LOCAL_BLOCKS))
    torch.manual_seed(0)
    with device:
        return build_generator(cast(Any, recipe))


def random_vgg(backbone: Backbone) -> dict[str, Tensor]:
    """Random weights with VGG's shapes and torchvision's keys, scaled so that features keep their magnitude."""
    state, index, channels = dict[str, Tensor](), 0, 3
    for stage, convolutions in enumerate(_VGG[backbone]):
        index += 1 if stage else 0
        width = min(64 * 2**stage, 512)
        for _ in range(convolutions):
            state[f"features.{index}.weight"] = torch.randn(width, channels, 3, 3) * (2 / (9 * channels)) ** 0.5
            state[f"features.{index}.bias"] = torch.zeros(width)
            index, channels = index + 2, width
    return state


def random_pairs(shape: Shape, batch: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Random figures and truth, float32 (B, 2, 3, H, W) in [-1, 1]."""
    size = (batch, 2, 3, shape.height, shape.width)
    return torch.rand(size, device=device) * 2 - 1, torch.rand(size, device=device) * 2 - 1
