"""The generator that a recipe describes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn

from dancedist.models.generator import Generator
from dancedist.models.pix2pixhd import LocalEnhancer, global_generator, head, init_weights, stem
from dancedist.models.windowed import MaskedGenerator, patch_head, patch_stem

if TYPE_CHECKING:
    from dancedist.recipe.schema import Recipe


def build_generator(recipe: Recipe) -> Generator:
    """The generator of the recipe's last generator stage: global, or local if the recipe has it."""
    g = recipe.generator
    channels = 4 if g.background else 3
    net: nn.Module = (coarse := build_global(6, channels, g.filters, g.downsamplings, g.blocks, g.patch))
    if "local" in recipe.stages:
        filters = g.filters // 2
        net = LocalEnhancer(coarse, *_ends(6, channels, filters, g.patch), filters, recipe.local.blocks)
    generator = MaskedGenerator(net) if g.background else Generator(net)
    generator.apply(init_weights)
    return generator


def build_global(
    in_channels: int, out_channels: int, filters: int, downsamplings: int, blocks: int, patch: int = 1
) -> nn.Sequential:
    """pix2pixHD's global generator, (B, in, H, W) -> (B, out, H, W); a `patch` above 1 is not in the paper."""
    return global_generator(*_ends(in_channels, out_channels, filters, patch), filters, downsamplings, blocks)


def _ends(in_channels: int, out_channels: int, filters: int, patch: int) -> tuple[nn.Module, nn.Module]:
    """Stem and head, the first and last layers."""
    if patch == 1:
        return stem(in_channels, filters), head(filters, out_channels)
    return patch_stem(in_channels, filters, patch), patch_head(filters, out_channels, patch)
