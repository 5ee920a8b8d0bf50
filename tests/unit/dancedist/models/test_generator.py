from __future__ import annotations

from typing import Any

import pytest
import torch

from dancedist.models.generator import LocalEnhancer, build_generator, reach, renamed
from dancedist.recipe import Recipe, parse_recipe


def recipe_of(*stages: str, **generator: Any) -> Recipe:
    """A small generator for these stages; global alone if none is named."""
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
    ends = 49 * 6 * 64 + 64 + 49 * 64 * 3 + 3
    assert sum(p.numel() for p in generator.parameters()) == down + up + ends + 18 * (9 * 1024**2 + 1024)


def test_sees_its_last_picture() -> None:
    generator = build_generator(recipe_of())
    x = torch.randn(1, 3, 16, 16)
    assert not torch.equal(generator(x, torch.zeros_like(x)), generator(x, torch.ones_like(x)))


def test_backdrop_shows_where_the_mask_is_closed() -> None:
    backdrop = torch.rand(1, 3, 16, 16) * 2 - 1
    generator = build_generator(recipe_of(backdrop=True))
    last = next(m for m in reversed(list(generator.modules())) if isinstance(m, torch.nn.Conv2d))
    with torch.no_grad():
        last.weight.zero_()
        assert last.bias is not None
        last.bias[3] = -50
    x = torch.randn(1, 3, 16, 16)
    assert torch.allclose(generator(x, x, backdrop), backdrop)
    assert generator.paint(x, x, backdrop)[1].max() < 1e-6


def test_nothing_is_painted_far_from_the_figure() -> None:
    figure, backdrop = torch.full((1, 3, 64, 48), -1.0), torch.rand(1, 3, 64, 48) * 2 - 1
    figure[..., 30:40, 6:9] = 1
    generator = build_generator(recipe_of(backdrop=True))
    picture, painted = generator.paint(figure, torch.zeros_like(figure), backdrop)
    assert torch.equal(picture[..., 24:], backdrop[..., 24:])
    assert painted[..., 24:].max() == 0
    assert not torch.equal(picture[..., 30:40, 6:9], backdrop[..., 30:40, 6:9])
    assert reach(figure)[..., 30:40, 4:12].min() == 1


def test_a_backdrop_is_neither_forgotten_nor_given_in_vain() -> None:
    x = torch.randn(1, 3, 16, 16)
    for paints_over, backdrop in ((True, None), (False, x)):
        with pytest.raises(AssertionError):
            build_generator(recipe_of(backdrop=paints_over))(x, x, backdrop)


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
    ends = 49 * 6 * 32 + 32 + 49 * 32 * 3 + 3
    own = ends + 2 * 9 * 32 * 64 + 64 + 32 + 3 * 2 * (9 * 64**2 + 64)
    assert sum(p.numel() for part in (net.front, net.back) for p in part.parameters()) == own


def test_the_enhancer_takes_the_global_generator_over_but_for_its_exit() -> None:
    coarse, fine = build_generator(recipe_of()), build_generator(recipe_of("global", "local"))
    taken = renamed(coarse.state_dict(), local=True)
    inside = {name for name in fine.state_dict() if name.startswith("net.coarse.")}
    assert taken.keys() == inside
    fine.load_state_dict({**fine.state_dict(), **taken})
    x = torch.randn(1, 6, 16, 16)
    assert torch.equal(fine.net.coarse(x), coarse.net[:-1](x))  # type: ignore[operator,index]
    back = renamed(fine.state_dict(), local=False)
    assert all(torch.equal(back[name], coarse.state_dict()[name]) for name in back)
    assert {n for n in coarse.state_dict() if n not in back} == {"net.6.1.weight", "net.6.1.bias"}


def test_every_weight_of_the_enhancer_learns() -> None:
    fine = build_generator(recipe_of("global", "local"))
    x = torch.randn(1, 3, 16, 16)
    fine(x, x).square().sum().backward()
    assert [n for n, p in fine.named_parameters() if p.grad is None] == []
