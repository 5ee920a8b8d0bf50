"""DiffAugment (Zhao et al., NeurIPS 2020): what the discriminator sees is changed at random, so that it learns no films
by heart. Differentiable, so that the generator learns through it.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

# Largest shift, as a part of a side.
_SHIFT = 0.125


def diff_augment(judged_BCHW: Tensor, chance_N5: Tensor) -> Tensor:
    """The policy "color, translation" on what a discriminator sees, (B, C, H, W) -> the same shape.

    The first half of the channels are figures, the rest pictures: figures keep their colours and move along.
    `chance` in [0, 1): a row for each of N pairs, for B = N entries or 2 N frames. With the same chance real and fake
    change alike, and so do both frames of a pair: features and motion can still be compared.
    """
    batch, channels, height, width = judged_BCHW.shape
    each = chance_N5.repeat_interleave(batch // len(chance_N5), 0).to(judged_BCHW)
    brightness, saturation, contrast, down, across = each.unbind(1)
    figures, pictures = judged_BCHW[:, : channels // 2], judged_BCHW[:, channels // 2 :]
    rgb = pictures.reshape(batch, -1, 3, height, width) + (brightness - 0.5).view(-1, 1, 1, 1, 1)
    grey = rgb.mean(2, keepdim=True)
    rgb = grey + (rgb - grey) * (2 * saturation).view(-1, 1, 1, 1, 1)
    mean = rgb.mean((1, 2, 3, 4), keepdim=True)
    rgb = mean + (rgb - mean) * (contrast + 0.5).view(-1, 1, 1, 1, 1)
    changed = torch.cat([figures, rgb.flatten(1, 2)], 1)
    return _shifted(changed, down, across, (round(height * _SHIFT), round(width * _SHIFT)))


def _shifted(x_BCHW: Tensor, down: Tensor, across: Tensor, furthest: tuple[int, int]) -> Tensor:
    """Moved by up to so many px (rows, columns), `down` and `across` in [0, 1); zeros come in."""
    (rows, columns), (height, width) = furthest, x_BCHW.shape[-2:]
    padded = F.pad(x_BCHW, (columns, columns, rows, rows))
    tops, lefts = ((p * (2 * most + 1)).long().tolist() for p, most in ((down, rows), (across, columns)))
    places = zip(padded, tops, lefts, strict=True)
    return torch.stack([one[:, top : top + height, left : left + width] for one, top, left in places])
