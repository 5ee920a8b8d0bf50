from __future__ import annotations

import pytest
import torch

from dancedist.gan.generator import Generator, build_generator
from dancedist.recipe import GeneratorRecipe


@pytest.mark.parametrize(("width", "height"), [(32, 64), (64, 32), (48, 48)])
@pytest.mark.parametrize("patch", [1, 2])
def test_any_size_divisible_by_its_multiple(width: int, height: int, patch: int) -> None:
    recipe = GeneratorRecipe(filters=4, downsamplings=2, blocks=1, patch=patch)
    assert recipe.multiple == 4 * patch
    generator = build_generator(recipe, None)
    x = torch.randn(2, 3, height, width)
    y = generator(x, x)
    assert y.shape == x.shape
    assert y.abs().max() <= 1


def test_the_papers_generator_has_pix2pixhds_weights() -> None:
    # 182.5 million parameters: GlobalGenerator(6, 3, ngf=64, n_downsampling=4, n_blocks=9).
    generator = build_generator(GeneratorRecipe(), None)
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


def test_backdrop_shows_where_the_mask_is_closed_and_stays() -> None:
    backdrop = torch.rand(3, 16, 16) * 2 - 1
    generator = Generator(4, 2, 1, backdrop=backdrop)
    last = next(m for m in reversed(list(generator.modules())) if isinstance(m, torch.nn.Conv2d))
    with torch.no_grad():
        last.weight.zero_()
        assert last.bias is not None
        last.bias[3] = -50
    x = torch.randn(1, 3, 16, 16)
    assert torch.allclose(generator(x, x)[0], backdrop)
    assert generator.paint(x, x)[1].max() < 1e-6
    assert torch.allclose(generator(x, x, (3, -5))[0], torch.roll(backdrop, (3, -5), (-2, -1)))
    assert "backdrop" in generator.state_dict()
    assert "backdrop" not in dict(generator.named_parameters())


def test_a_recipe_without_backdrop_takes_none() -> None:
    with pytest.raises(AssertionError):
        build_generator(GeneratorRecipe(filters=4, backdrop=True), None)
