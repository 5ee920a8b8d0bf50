from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from dancedist.models.losses import Perceptual, feature_matching, least_squares


def vgg16_state() -> dict[str, torch.Tensor]:
    """Random weights under torchvision's keys."""
    widths = {0: (3, 64), 2: (64, 64), 5: (64, 128), 7: (128, 128), 10: (128, 256), 12: (256, 256), 14: (256, 256)}
    widths |= {17: (256, 512), **dict.fromkeys((19, 21, 24, 26, 28), (512, 512))}
    draw = torch.Generator().manual_seed(0)
    state = {}
    for i, (a, b) in widths.items():
        state[f"features.{i}.weight"] = torch.randn(b, a, 3, 3, generator=draw) * (2 / (9 * a)) ** 0.5
        state[f"features.{i}.bias"] = torch.zeros(b)
    return state


def test_least_squares_is_zero_at_its_goal() -> None:
    ones, zeros = [[torch.ones(1, 1, 4, 4)]] * 2, [[torch.zeros(1, 1, 4, 4)]] * 2
    assert least_squares(ones, True) == 0
    assert least_squares(zeros, False) == 0
    assert least_squares(zeros, True) == 2


def test_feature_matching_ignores_the_logits() -> None:
    real = [[torch.zeros(1, 2, 4, 4), torch.zeros(1, 2, 2, 2), torch.zeros(1, 1, 1, 1)]]
    fake = [[torch.full((1, 2, 4, 4), 3.0), torch.ones(1, 2, 2, 2), torch.full((1, 1, 1, 1), 99.0)]]
    assert feature_matching(fake, real) == pytest.approx(4 * (3 + 1) / 2)


def test_perceptual_compares_the_first_relu_of_each_stage() -> None:
    state = vgg16_state()
    loss = Perceptual("vgg16", state)
    a, b = (torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(i)) * 2 - 1 for i in (1, 2))

    def features(x: torch.Tensor) -> list[torch.Tensor]:
        mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
        x = ((x + 1) / 2 - mean.view(1, 3, 1, 1)) / std.view(1, 3, 1, 1)
        out = []
        for i in (0, 2, "M", 5, 7, "M", 10, 12, 14, "M", 17, 19, 21, "M", 24):
            if i == "M":
                x = F.max_pool2d(x, 2)
                continue
            x = F.relu(F.conv2d(x, state[f"features.{i}.weight"], state[f"features.{i}.bias"], padding=1))
            if i in (0, 5, 10, 17, 24):
                out.append(x)
        return out

    expected = sum(w * F.l1_loss(p, q) for w, p, q in zip(loss.weights, features(a), features(b), strict=True))
    assert loss(a, b) == pytest.approx(float(expected), rel=1e-5)
    assert loss(a, a) == 0
    assert Perceptual("vgg16", state, stages=2)(a, b) < loss(a, b)


def test_perceptual_has_a_gradient_for_the_fake_only() -> None:
    loss = Perceptual("vgg16", vgg16_state(), stages=2)
    fake = torch.zeros(1, 3, 16, 16, requires_grad=True)
    loss(fake, torch.ones(1, 3, 16, 16)).backward()
    assert fake.grad is not None
    assert fake.grad.abs().sum() > 0
    assert not any(p.requires_grad for p in loss.parameters())


def test_computing_pictures_one_by_one_gives_the_same_loss_and_gradient() -> None:
    draw = torch.Generator().manual_seed(3)
    # In float64, because L1's gradient is a sign, which rounding may flip.
    fake, real = (torch.rand(3, 3, 32, 32, generator=draw, dtype=torch.float64) * 2 - 1 for _ in range(2))
    results = []
    for one_by_one in (False, True):
        inputs = fake.clone().requires_grad_()
        loss = Perceptual("vgg16", vgg16_state(), one_by_one=one_by_one).double()(inputs, real)
        loss.backward()
        results.append((loss.detach(), inputs.grad))
    torch.testing.assert_close(results[1], results[0], rtol=1e-4, atol=1e-6)
