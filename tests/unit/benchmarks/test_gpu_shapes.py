"""benchmarks/gpu.py repeats the presets' numbers, as it may not read them: there is no pydantic where it runs."""

from __future__ import annotations

import pytest

from benchmarks.tools.gpu_networks import FAST_256, FAST_512, FAST_1024, QUICK, Shape
from dancedist.recipe import Recipe, load_recipe

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
def test_a_shape_is_the_presets(shape: Shape, recipe: Recipe) -> None:
    g, d, losses, training = recipe.generator, recipe.discriminator, recipe.losses, recipe.training
    assert (shape.filters, shape.downsamplings, shape.blocks) == (g.filters, g.downsamplings, g.blocks)
    assert (shape.patch, shape.backdrop, shape.local) == (g.patch, g.backdrop, "local" in recipe.stages)
    assert (shape.discriminator_filters, shape.layers, shape.scales) == (d.filters, d.layers, d.scales)
    assert shape.backbone == losses.perceptual_backbone
    assert shape.perceptual_stages == losses.perceptual_stages
    assert shape.perceptual_crop_px == losses.perceptual_crop_px
    weights = (losses.feature_matching, losses.perceptual, losses.l1, losses.motion)
    own = shape.weights
    assert (own.feature_matching, own.perceptual, own.l1, own.motion) == weights
    assert shape.channels_last == training.channels_last and not training.augment
