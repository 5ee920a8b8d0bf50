"""The shapes in benchmarks/gpu_parts repeat the presets' numbers, as benchmarks/gpu.py runs without pydantic."""

from __future__ import annotations

import pytest

from benchmarks.gpu_parts.networks import FAST_256, FAST_512, FAST_1024, QUICK, Shape
from dancedist.recipe.loading import load_recipe
from dancedist.recipe.schema import Recipe

FAST = load_recipe("fast")


@pytest.mark.parametrize(
    ("shape", "recipe"),
    [
        (FAST_256, FAST.at_stage("global")),
        (FAST_512, FAST.at_stage("global")),
        (FAST_1024, FAST.at_stage("local")),
        (QUICK, load_recipe("quick").at_stage("global")),
    ],
)
def test_a_shape_equals_its_preset(shape: Shape, recipe: Recipe) -> None:
    g, d, losses, training = recipe.generator, recipe.discriminator, recipe.losses, recipe.training
    assert (shape.filters, shape.downsamplings, shape.blocks) == (g.filters, g.downsamplings, g.blocks)
    assert (shape.patch, shape.background, shape.local) == (g.patch, g.background, "local" in recipe.stages)
    assert (shape.discriminator_filters, shape.layers, shape.scales) == (d.filters, d.layers, d.scales)
    assert shape.backbone == losses.perceptual_backbone
    assert shape.perceptual_stages == losses.perceptual_stages
    assert shape.perceptual_crop_px == losses.perceptual_crop_px
    weights = (losses.feature_matching, losses.perceptual, losses.l1, losses.motion)
    shape_weights = shape.weights
    assert (shape_weights.feature_matching, shape_weights.perceptual, shape_weights.l1, shape_weights.motion) == weights
    assert shape.channels_last == training.channels_last and not training.augment
