from __future__ import annotations

import pytest
import torch

from dancedist.models.build import build_generator
from dancedist.models.windowed import mask_support
from tests.unit.dancedist.models.test_build import recipe_of


def test_the_background_shows_where_the_mask_is_zero() -> None:
    background = torch.rand(1, 3, 16, 16) * 2 - 1
    generator = build_generator(recipe_of(background=True))
    last = next(m for m in reversed(list(generator.modules())) if isinstance(m, torch.nn.Conv2d))
    with torch.no_grad():
        last.weight.zero_()
        assert last.bias is not None
        last.bias[3] = -50
    x = torch.randn(1, 3, 16, 16)
    assert torch.allclose(generator(x, x, background), background)
    assert generator.paint(x, x, background)[1].max() < 1e-6


def test_nothing_is_drawn_far_from_the_skeleton() -> None:
    figure, background = torch.full((1, 3, 64, 48), -1.0), torch.rand(1, 3, 64, 48) * 2 - 1
    figure[..., 30:40, 6:9] = 1
    generator = build_generator(recipe_of(background=True))
    picture, alpha = generator.paint(figure, torch.zeros_like(figure), background)
    assert torch.equal(picture[..., 24:], background[..., 24:])
    assert alpha[..., 24:].max() == 0
    assert not torch.equal(picture[..., 30:40, 6:9], background[..., 30:40, 6:9])
    assert mask_support(figure)[..., 30:40, 4:12].min() == 1


def test_a_background_is_required_exactly_if_the_generator_uses_one() -> None:
    x = torch.randn(1, 3, 16, 16)
    for predicts_mask, background in ((True, None), (False, x)):
        with pytest.raises(AssertionError):
            build_generator(recipe_of(background=predicts_mask))(x, x, background)
