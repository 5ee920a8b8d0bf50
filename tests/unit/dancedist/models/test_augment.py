from __future__ import annotations

import torch

from dancedist.models.augment import diff_augment

NONE = torch.tensor([[0.5, 0.5, 0.5, 0.5, 0.5]])


def random_input(batch: int = 1) -> torch.Tensor:
    return torch.rand(batch, 12, 16, 24, generator=torch.Generator().manual_seed(0)) * 2 - 1


def test_chances_of_one_half_change_nothing() -> None:
    x = random_input()
    assert torch.allclose(diff_augment(x, NONE), x, atol=1e-6)


def test_skeletons_keep_their_colours_and_are_shifted_along() -> None:
    x = random_input()
    x[:, 6:9] = x[:, 0:3]
    coloured = diff_augment(x, torch.tensor([[0.9, 0.1, 0.2, 0.5, 0.5]]))
    assert torch.equal(coloured[:, :6], x[:, :6])
    assert (coloured[:, 6:] - x[:, 6:]).abs().max() > 0.1
    shifted = diff_augment(x, torch.tensor([[0.5, 0.5, 0.5, 0.0, 0.99]]))
    assert torch.allclose(shifted[:, :3], shifted[:, 6:9], atol=1e-6)
    # Up to an eighth: rows 2 down, columns 3 to the left; zeros fill the edge.
    assert torch.allclose(shifted[..., 2:, :-3], x[..., :-2, 3:], atol=1e-6)
    assert shifted[..., :2, :].abs().max() == 0


def test_both_frames_of_a_pair_change_alike() -> None:
    chance = torch.rand(3, 5, generator=torch.Generator().manual_seed(1))
    frame = random_input(1)[:, :6]
    augmented = diff_augment(frame.expand(6, -1, -1, -1), chance)
    for pair in augmented.split(2):
        assert torch.equal(pair[0], pair[1])
    assert not torch.equal(augmented[0], augmented[2])
    batch = diff_augment(torch.cat([frame, frame, frame], 0).repeat(1, 2, 1, 1), chance)
    assert torch.isfinite(batch).all()


def test_the_generator_learns_through_it() -> None:
    x = random_input().requires_grad_()
    diff_augment(x, torch.rand(1, 5)).square().sum().backward()
    assert x.grad is not None
    assert (x.grad != 0).float().mean() > 0.7
