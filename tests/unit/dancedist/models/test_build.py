from __future__ import annotations

from typing import Any

import pytest
import torch

from dancedist.models.build import build_generator
from dancedist.models.generator import remap_state_dict
from dancedist.models.pix2pixhd import LocalEnhancer
from dancedist.recipe.loading import parse_recipe
from dancedist.recipe.schema import Recipe


def recipe_of(*stages: str, **generator: Any) -> Recipe:
    """A recipe with a small generator for these stages, by default global only."""
    small = {"filters": 4, "downsamplings": 2, "blocks": 1}
    return parse_recipe({"stages": stages or ("global",), "generator": {**small, **generator}})


@pytest.mark.parametrize(("width", "height"), [(32, 64), (64, 32), (48, 48)])
@pytest.mark.parametrize("patch", [1, 2])
def test_any_size_divisible_by_its_multiple(width: int, height: int, patch: int) -> None:
    recipe = recipe_of(patch=patch)
    assert recipe.multiple == 4 * patch
    generator = build_generator(recipe)
    x = torch.randn(2, 3, height, width)
    y = generator(x, x)
    assert y.shape == x.shape
    assert y.abs().max() <= 1


def test_the_papers_generator_has_pix2pixhds_weights() -> None:
    # 182.5 million parameters: GlobalGenerator(6, 3, ngf=64, n_downsampling=4, n_blocks=9).
    generator = build_generator(parse_recipe({"stages": ["global"]}))
    convolutions = [m for m in generator.modules() if isinstance(m, torch.nn.Conv2d | torch.nn.ConvTranspose2d)]
    assert len(convolutions) == 1 + 4 + 2 * 9 + 4 + 1
    down = sum(9 * 64 * 2**i * 64 * 2 ** (i + 1) + 64 * 2 ** (i + 1) for i in range(4))
    up = sum(9 * 64 * 2**i * 64 * 2 ** (i + 1) + 64 * 2**i for i in range(4))
    stem_and_head = 49 * 6 * 64 + 64 + 49 * 64 * 3 + 3
    assert sum(p.numel() for p in generator.parameters()) == down + up + stem_and_head + 18 * (9 * 1024**2 + 1024)


def test_the_output_depends_on_the_last_picture() -> None:
    generator = build_generator(recipe_of())
    x = torch.randn(1, 3, 16, 16)
    assert not torch.equal(generator(x, torch.zeros_like(x)), generator(x, torch.ones_like(x)))


@pytest.mark.parametrize("patch", [1, 2])
def test_the_local_enhancer_works_at_twice_the_size(patch: int) -> None:
    recipe = recipe_of("global", "local", patch=patch)
    assert recipe.multiple == 8 * patch
    assert recipe.pixels == 4 * recipe.generator.pixels
    x = torch.randn(2, 3, 16 * patch, 24 * patch)
    assert build_generator(recipe)(x, x).shape == x.shape


def test_the_papers_local_enhancer_has_pix2pixhds_weights() -> None:
    # LocalEnhancer(6, 3, ngf=32, n_downsample_global=4, n_blocks_global=9, n_local_enhancers=1, n_blocks_local=3).
    net = build_generator(parse_recipe({"stages": ["global", "local"]})).net
    assert isinstance(net, LocalEnhancer)
    stem_and_head = 49 * 6 * 32 + 32 + 49 * 32 * 3 + 3
    own = stem_and_head + 2 * 9 * 32 * 64 + 64 + 32 + 3 * 2 * (9 * 64**2 + 64)
    assert sum(p.numel() for part in (net.front, net.back) for p in part.parameters()) == own


def test_the_enhancer_takes_over_the_global_generator_without_its_head() -> None:
    coarse, fine = build_generator(recipe_of()), build_generator(recipe_of("global", "local"))
    coarse_weights = remap_state_dict(coarse.state_dict(), local=True)
    inside = {name for name in fine.state_dict() if name.startswith("net.coarse.")}
    assert coarse_weights.keys() == inside
    fine.load_state_dict({**fine.state_dict(), **coarse_weights})
    x = torch.randn(1, 6, 16, 16)
    assert torch.equal(fine.net.coarse(x), coarse.net[:-1](x))  # type: ignore[operator,index]
    back = remap_state_dict(fine.state_dict(), local=False)
    assert all(torch.equal(back[name], coarse.state_dict()[name]) for name in back)
    assert {n for n in coarse.state_dict() if n not in back} == {"net.6.1.weight", "net.6.1.bias"}


def test_every_weight_of_the_enhancer_gets_a_gradient() -> None:
    fine = build_generator(recipe_of("global", "local"))
    x = torch.randn(1, 3, 16, 16)
    fine(x, x).square().sum().backward()
    assert [n for n, p in fine.named_parameters() if p.grad is None] == []
