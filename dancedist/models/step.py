"""One step of discriminator and generator as pure functions: pictures in, losses out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from dancedist.models.losses import feature_matching, least_squares

# A discriminator: its features, scale by scale, the verdict last.
Judge = Callable[[Tensor], list[list[Tensor]]]
Picture2 = Tensor  # (B, 2, 3, H, W): the frames t-1 and t, in [-1, 1]


@dataclass(frozen=True)
class LossWeights:
    """What the generator's losses weigh beside the adversarial one."""

    feature_matching: float
    perceptual: float
    l1: float
    motion: float = 0.0


def rollout(
    generator: Callable[[Tensor, Tensor], Tensor], figures_B23HW: Picture2, *, temporal: bool = True
) -> Picture2:
    """y'_{t-1} = G(x_{t-1}, 0), y'_t = G(x_t, y'_{t-1}), with the gradient through y'_{t-1}.

    The paper's "Temporal Smoothing": L_smooth judges two frames in a row, the first made from nothing.

    Not `temporal`: each frame by itself, G(x, 0).
    """
    nothing = torch.zeros_like(figures_B23HW[:, 0])
    first = generator(figures_B23HW[:, 0], nothing)
    second = generator(figures_B23HW[:, 1], first if temporal else nothing)
    return torch.stack([first, second], 1)


def judged_input(figures_B23HW: Picture2, pictures_B23HW: Picture2, *, temporal: bool = True) -> Tensor:
    """What the discriminator sees: (x_{t-1}, x_t, y_{t-1}, y_t) as (B, 12, H, W).

    Not `temporal`: (x, y) of each frame as (2 B, 6, H, W).
    """
    if temporal:
        return torch.cat([figures_B23HW.flatten(1, 2), pictures_B23HW.flatten(1, 2)], 1)
    return torch.cat([figures_B23HW.flatten(0, 1), pictures_B23HW.flatten(0, 1)], 1)


def discriminator_losses(discriminator: Judge, fake_BCHW: Tensor, real_BCHW: Tensor) -> dict[str, Tensor]:
    """Least-squares losses of D on its own input; the fake must be detached. One pass over both."""
    judged = discriminator(torch.cat([fake_BCHW, real_BCHW]))
    fakes, reals = _halves(judged)
    return {"d_fake": least_squares(fakes, False) / 2, "d_real": least_squares(reals, True) / 2}


def adversarial_losses(
    discriminator: Judge, fake_BCHW: Tensor, real_BCHW: Tensor, weights: LossWeights
) -> dict[str, Tensor]:
    """The part of G's weighted losses that D has a say in: L_smooth + lambda_FM L_FM.

    fake and real (B, C, H, W) are the discriminator's input; its parameters must not take gradients meanwhile.
    """
    judged_fake = discriminator(fake_BCHW)
    with torch.no_grad():
        judged_real = discriminator(real_BCHW)
    return {
        "g_gan": least_squares(judged_fake, True),
        "g_matching": weights.feature_matching * feature_matching(judged_fake, judged_real),
    }


def picture_losses(
    pictures_B23HW: Picture2,
    truth_B23HW: Picture2,
    crops: tuple[Tensor, Tensor],
    perceptual: Callable[[Tensor, Tensor], Tensor] | None,
    weights: LossWeights,
) -> dict[str, Tensor]:
    """The other part: lambda_P (L_P(G(x_{t-1}), y_{t-1}) + L_P(G(x_t), y_t)); L1 of pictures and of their change.

    The sum of both parts is the paper's full objective, and is what is minimised. `crops` (N, 3, h, w) of pictures
    and truth are what the perceptual loss sees; it counts once per frame of a pair.
    """
    losses: dict[str, Tensor] = {}
    if perceptual is not None:
        losses["g_perceptual"] = weights.perceptual * 2 * perceptual(*crops)
    if weights.l1:
        losses["g_l1"] = weights.l1 * F.l1_loss(pictures_B23HW, truth_B23HW)
    if weights.motion:
        change, true_change = (p[:, 1] - p[:, 0] for p in (pictures_B23HW, truth_B23HW))
        losses["g_motion"] = weights.motion * F.l1_loss(change, true_change)
    return losses


def _halves(judged: list[list[Tensor]]) -> tuple[list[list[Tensor]], list[list[Tensor]]]:
    halves = [[f.chunk(2) for f in features] for features in judged]
    return [[f[0] for f in s] for s in halves], [[f[1] for f in s] for s in halves]
