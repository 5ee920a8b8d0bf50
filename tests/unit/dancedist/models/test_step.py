from __future__ import annotations

import pytest
import torch

from dancedist.models.build import build_global
from dancedist.models.generator import Generator
from dancedist.models.losses import least_squares
from dancedist.models.pix2pixhd import Discriminator
from dancedist.models.step import (
    LossWeights,
    adversarial_losses,
    discriminator_input,
    discriminator_losses,
    picture_losses,
    rollout,
)


def small_generator() -> Generator:
    return Generator(build_global(6, 3, 4, 2, 1))


def pair(seed: int = 0) -> torch.Tensor:
    return torch.rand(2, 2, 3, 16, 16, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def test_the_second_frame_is_generated_from_the_first_with_its_gradient() -> None:
    generator, x = small_generator(), pair()
    first = generator(x[:, 0], torch.zeros_like(x[:, 0]))
    assert torch.equal(rollout(generator, x), torch.stack([first, generator(x[:, 1], first)], 1))

    shift = torch.zeros(2, 3, 16, 16, requires_grad=True)
    calls = []

    def shifted(figure: torch.Tensor, last: torch.Tensor) -> torch.Tensor:
        calls.append(last)
        return generator(figure, last) + (shift if len(calls) == 1 else 0)

    rollout(shifted, x)[:, 1].sum().backward()
    assert shift.grad is not None
    assert shift.grad.abs().sum() > 0


def test_frame_by_frame_does_not_depend_on_the_last_frame() -> None:
    generator, x = small_generator(), pair()
    swapped = rollout(generator, x.flip(1), temporal=False).flip(1)
    assert torch.allclose(rollout(generator, x, temporal=False), swapped, atol=1e-6)


def test_the_discriminators_input_is_skeletons_then_pictures() -> None:
    x, y = pair(1), pair(2)
    both = discriminator_input(x, y)
    assert both.shape == (2, 12, 16, 16)
    assert torch.equal(both[:, 3:6], x[:, 1])
    assert torch.equal(both[:, 6:9], y[:, 0])
    by_frame = discriminator_input(x, y, temporal=False)
    assert torch.equal(by_frame[1], torch.cat([x[0, 1], y[0, 1]]))


def test_one_pass_over_fake_and_real_gives_the_losses_of_two() -> None:
    d, fake, real = Discriminator(12, 4, 2, 2), torch.randn(2, 12, 16, 16), torch.randn(2, 12, 16, 16)
    losses = discriminator_losses(d, fake, real)
    assert torch.allclose(losses["d_fake"], least_squares(d(fake), False) / 2, atol=1e-6)
    assert torch.allclose(losses["d_real"], least_squares(d(real), True) / 2, atol=1e-6)


def test_the_generators_losses_are_zero_for_the_truth_except_the_adversarial_one() -> None:
    d, x, y = Discriminator(12, 4, 2, 2), pair(1), pair(2)
    both = discriminator_input(x, y)
    flat = y.flatten(0, 1)
    weights = LossWeights(10, 5, 10, 10)
    losses = picture_losses(y, y, (flat, flat), lambda a, b: (a - b).abs().mean(), weights)
    losses |= adversarial_losses(d, both, both, weights)
    assert losses.keys() == {"g_gan", "g_matching", "g_perceptual", "g_l1", "g_motion"}
    assert losses["g_gan"] > 0
    assert all(value == 0 for name, value in losses.items() if name != "g_gan")


def test_an_error_that_is_equal_in_both_frames_has_no_motion_loss() -> None:
    y, weights = pair(2), LossWeights(0, 0, 10, 10)
    flat = y.flatten(0, 1)
    constant_error = picture_losses(y + 0.5, y, (flat, flat), None, weights)
    assert constant_error["g_l1"] == pytest.approx(5.0)
    assert constant_error["g_motion"] == pytest.approx(0.0, abs=1e-5)
    flicker = picture_losses(y + torch.tensor([0.5, -0.5]).view(1, 2, 1, 1, 1), y, (flat, flat), None, weights)
    assert flicker["g_l1"] == pytest.approx(5.0)
    assert flicker["g_motion"] == pytest.approx(10.0)
