from __future__ import annotations

import pytest
import torch

from dancedist.gan.generator import Generator, build_generator, reach
from dancedist.recipe import GeneratorRecipe


@pytest.mark.parametrize(("width", "height"), [(32, 64), (64, 32), (48, 48)])
@pytest.mark.parametrize("patch", [1, 2])
def test_any_size_divisible_by_its_multiple(width: int, height: int, patch: int) -> None:
    recipe = GeneratorRecipe(filters=4, downsamplings=2, blocks=1, patch=patch)
    assert recipe.multiple == 4 * patch
    generator = build_generator(recipe)
    x = torch.randn(2, 3, height, width)
    y = generator(x, x)
    assert y.shape == x.shape
    assert y.abs().max() <= 1


def test_the_papers_generator_has_pix2pixhds_weights() -> None:
    # 182.5 million parameters: GlobalGenerator(6, 3, ngf=64, n_downsampling=4, n_blocks=9).
    generator = build_generator(GeneratorRecipe())
    convolutions = [m for m in generator.modules() if isinstance(m, torch.nn.Conv2d | torch.nn.ConvTranspose2d)]
    assert len(convolutions) == 1 + 4 + 2 * 9 + 4 + 1
    down = sum(9 * 64 * 2**i * 64 * 2 ** (i + 1) + 64 * 2 ** (i + 1) for i in range(4))
    up = sum(9 * 64 * 2**i * 64 * 2 ** (i + 1) + 64 * 2**i for i in range(4))
    ends = 49 * 6 * 64 + 64 + 49 * 64 * 3 + 3
    assert sum(p.numel() for p in generator.parameters()) == down + up + ends + 18 * (9 * 1024**2 + 1024)


def test_sees_its_last_picture() -> None:
    generator = Generator(4, 2, 1)
    x = torch.randn(1, 3, 16, 16)
    assert not torch.equal(generator(x, torch.zeros_like(x)), generator(x, torch.ones_like(x)))


def test_backdrop_shows_where_the_mask_is_closed() -> None:
    backdrop = torch.rand(1, 3, 16, 16) * 2 - 1
    generator = build_generator(GeneratorRecipe(filters=4, downsamplings=2, blocks=1, backdrop=True))
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
    generator = build_generator(GeneratorRecipe(filters=4, downsamplings=2, blocks=1, backdrop=True))
    picture, painted = generator.paint(figure, torch.zeros_like(figure), backdrop)
    assert torch.equal(picture[..., 24:], backdrop[..., 24:])
    assert painted[..., 24:].max() == 0
    assert not torch.equal(picture[..., 30:40, 6:9], backdrop[..., 30:40, 6:9])
    assert reach(figure)[..., 30:40, 4:12].min() == 1


def test_a_backdrop_is_neither_forgotten_nor_given_in_vain() -> None:
    x = torch.randn(1, 3, 16, 16)
    for paints_over, backdrop in ((True, None), (False, x)):
        with pytest.raises(AssertionError):
            Generator(4, 2, 1, paints_over=paints_over)(x, x, backdrop)
