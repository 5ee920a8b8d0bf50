"""Losses of one training step of generator and discriminator, as pure functions of pictures."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from dancedist.models.losses import feature_matching, least_squares

# A discriminator: features of every scale, float32 (B, C, h, w); the last of a scale are its logits.
DiscriminatorFn = Callable[[Tensor], list[list[Tensor]]]
FramePair = Tensor  # float32 (B, 2, 3, H, W): frames t-1 and t, in [-1, 1]


@dataclass(frozen=True)
class LossWeights:
    """Weights of the generator's losses, relative to the adversarial loss."""

    feature_matching: float
    perceptual: float
    l1: float
    motion: float = 0.0


def rollout(
    generator: Callable[[Tensor, Tensor], Tensor], figures_B23HW: FramePair, *, temporal: bool = True
) -> FramePair:
    """Generate both frames: y'_{t-1} = G(x_{t-1}, 0), y'_t = G(x_t, y'_{t-1}), with gradient through y'_{t-1}.

    The paper's section 3.2, "Temporal smoothing": the first frame is generated from a zero picture. Skeletons and
    pictures are float32 (B, 2, 3, H, W) in [-1, 1]. If not `temporal`, each frame by itself: G(x, 0).
    """
    zeros = torch.zeros_like(figures_B23HW[:, 0])
    first = generator(figures_B23HW[:, 0], zeros)
    second = generator(figures_B23HW[:, 1], first if temporal else zeros)
    return torch.stack([first, second], 1)


def discriminator_input(figures_B23HW: FramePair, pictures_B23HW: FramePair, *, temporal: bool = True) -> Tensor:
    """The discriminator's input (x_{t-1}, x_t, y_{t-1}, y_t) as float32 (B, 12, H, W) in [-1, 1] (eq. 1).

    If not `temporal`, (x, y) of each frame as (2 B, 6, H, W).
    """
    if temporal:
        return torch.cat([figures_B23HW.flatten(1, 2), pictures_B23HW.flatten(1, 2)], 1)
    return torch.cat([figures_B23HW.flatten(0, 1), pictures_B23HW.flatten(0, 1)], 1)


def discriminator_losses(discriminator: DiscriminatorFn, fake_BCHW: Tensor, real_BCHW: Tensor) -> dict[str, Tensor]:
    """Least-squares losses of D, float32 scalars by name, in one pass over fake and real.

    `fake` and `real` are D's inputs, float (B, C, H, W) in [-1, 1]; `fake` must be detached.
    """
    fakes, reals = _split_batch(discriminator(torch.cat([fake_BCHW, real_BCHW])))
    return {"d_fake": least_squares(fakes, False) / 2, "d_real": least_squares(reals, True) / 2}


def adversarial_losses(
    discriminator: DiscriminatorFn, fake_BCHW: Tensor, real_BCHW: Tensor, weights: LossWeights
) -> dict[str, Tensor]:
    """G's weighted losses that depend on the discriminator: L_smooth + lambda_FM L_FM (section 3.3, eq. 3).

    `fake` and `real` are D's inputs, float (B, C, H, W) in [-1, 1]; D's parameters must not require gradients. The
    losses are float32 scalars by name.
    """
    fake_features = discriminator(fake_BCHW)
    with torch.no_grad():
        real_features = discriminator(real_BCHW)
    return {
        "g_gan": least_squares(fake_features, True),
        "g_matching": weights.feature_matching * feature_matching(fake_features, real_features),
    }


def picture_losses(
    pictures_B23HW: FramePair,
    truth_B23HW: FramePair,
    crops: tuple[Tensor, Tensor],
    perceptual: Callable[[Tensor, Tensor], Tensor] | None,
    weights: LossWeights,
) -> dict[str, Tensor]:
    """G's other weighted losses: lambda_P (L_P(G(x_{t-1}), y_{t-1}) + L_P(G(x_t), y_t)), and L1 losses.

    With `adversarial_losses` they are the paper's full objective (section 3.3, eq. 3); the L1 of the pictures and of
    their change between frames are not in the paper. Pictures and truth are float32 (B, 2, 3, H, W) in [-1, 1].
    `crops` (N, 3, h, w) of pictures and truth are the perceptual loss's input; it counts once per frame of a pair.
    The losses are float32 scalars by name.
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


def _split_batch(scales: list[list[Tensor]]) -> tuple[list[list[Tensor]], list[list[Tensor]]]:
    """Features of the first and of the second half of a batch."""
    halves = [[f.chunk(2) for f in features] for features in scales]
    return [[f[0] for f in s] for s in halves], [[f[1] for f in s] for s in halves]
