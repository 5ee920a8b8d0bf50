from __future__ import annotations

import pytest
import torch

from dancedist.models.discriminator import Discriminator
from dancedist.models.generator import Generator, encoder_decoder
from dancedist.models.losses import least_squares
from dancedist.models.step import (
    LossWeights,
    adversarial_losses,
    discriminator_losses,
    judged_input,
    picture_losses,
    rollout,
)


def small_generator() -> Generator:
    return Generator(encoder_decoder(6, 3, 4, 2, 1), paints_over=False)


def pair(seed: int = 0) -> torch.Tensor:
    return torch.rand(2, 2, 3, 16, 16, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def test_second_frame_is_made_from_the_first_fake_with_its_gradient() -> None:
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


def test_frame_by_frame_knows_no_past() -> None:
    generator, x = small_generator(), pair()
    swapped = rollout(generator, x.flip(1), temporal=False).flip(1)
    assert torch.allclose(rollout(generator, x, temporal=False), swapped, atol=1e-6)


def test_discriminator_sees_figures_then_pictures() -> None:
    x, y = pair(1), pair(2)
    seen = judged_input(x, y)
    assert seen.shape == (2, 12, 16, 16)
    assert torch.equal(seen[:, 3:6], x[:, 1])
    assert torch.equal(seen[:, 6:9], y[:, 0])
    by_frame = judged_input(x, y, temporal=False)
    assert torch.equal(by_frame[1], torch.cat([x[0, 1], y[0, 1]]))


def test_one_pass_over_fake_and_real_gives_the_losses_of_two() -> None:
    d, fake, real = Discriminator(12, 4, 2, 2), torch.randn(2, 12, 16, 16), torch.randn(2, 12, 16, 16)
    losses = discriminator_losses(d, fake, real)
    assert torch.allclose(losses["d_fake"], least_squares(d(fake), False) / 2, atol=1e-6)
    assert torch.allclose(losses["d_real"], least_squares(d(real), True) / 2, atol=1e-6)


def test_generators_losses_vanish_for_the_truth_but_for_the_judgement() -> None:
    d, x, y = Discriminator(12, 4, 2, 2), pair(1), pair(2)
    seen = judged_input(x, y)
    flat = y.flatten(0, 1)
    weights = LossWeights(10, 5, 10, 10)
    losses = picture_losses(y, y, (flat, flat), lambda a, b: (a - b).abs().mean(), weights)
    losses |= adversarial_losses(d, seen, seen, weights)
    assert losses.keys() == {"g_gan", "g_matching", "g_perceptual", "g_l1", "g_motion"}
    assert losses["g_gan"] > 0
    assert all(value == 0 for name, value in losses.items() if name != "g_gan")


def test_what_is_as_wrong_in_both_frames_moves_as_the_truth_does() -> None:
    y, weights = pair(2), LossWeights(0, 0, 10, 10)
    flat = y.flatten(0, 1)
    still_wrong = picture_losses(y + 0.5, y, (flat, flat), None, weights)
    assert still_wrong["g_l1"] == pytest.approx(5.0)
    assert still_wrong["g_motion"] == pytest.approx(0.0, abs=1e-5)
    flickers = picture_losses(y + torch.tensor([0.5, -0.5]).view(1, 2, 1, 1, 1), y, (flat, flat), None, weights)
    assert flickers["g_l1"] == pytest.approx(5.0)
    assert flickers["g_motion"] == pytest.approx(10.0)
