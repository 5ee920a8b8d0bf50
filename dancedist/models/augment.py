"""DiffAugment (Zhao et al., NeurIPS 2020): random changes to what the discriminator sees, against overfitting.

The changes are differentiable, so that the generator learns through them.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

# Largest shift, as a part of a side.
_SHIFT = 0.125


def diff_augment(x_BCHW: Tensor, chance_N5: Tensor) -> Tensor:
    """Apply the policy "color, translation" to a discriminator's input, float (B, C, H, W) in [-1, 1].

    The first half of the channels are skeletons, the rest pictures; skeletons keep their colours and are shifted
    along. `chance` (N, 5) in [0, 1) has a row for each of N pairs, with B = N (pairs) or B = 2 N (frames). The same
    row changes real and fake, and both frames of a pair, in the same way: features and motion stay comparable.
    """
    batch, channels, height, width = x_BCHW.shape
    chance_B5 = chance_N5.repeat_interleave(batch // len(chance_N5), 0).to(x_BCHW)
    brightness, saturation, contrast, vertical, horizontal = chance_B5.unbind(1)
    figures, pictures = x_BCHW[:, : channels // 2], x_BCHW[:, channels // 2 :]
    rgb = pictures.reshape(batch, -1, 3, height, width) + (brightness - 0.5).view(-1, 1, 1, 1, 1)
    grey = rgb.mean(2, keepdim=True)
    rgb = grey + (rgb - grey) * (2 * saturation).view(-1, 1, 1, 1, 1)
    mean = rgb.mean((1, 2, 3, 4), keepdim=True)
    rgb = mean + (rgb - mean) * (contrast + 0.5).view(-1, 1, 1, 1, 1)
    coloured = torch.cat([figures, rgb.flatten(1, 2)], 1)
    return _shift(coloured, vertical, horizontal, (round(height * _SHIFT), round(width * _SHIFT)))


def _shift(x_BCHW: Tensor, vertical: Tensor, horizontal: Tensor, max_shift: tuple[int, int]) -> Tensor:
    """Shift by up to `max_shift` px (rows, columns); `down` and `right` in [0, 1). Zeros fill the edge."""
    (rows, columns), (height, width) = max_shift, x_BCHW.shape[-2:]
    padded = F.pad(x_BCHW, (columns, columns, rows, rows))
    tops, lefts = ((p * (2 * most + 1)).long().tolist() for p, most in ((vertical, rows), (horizontal, columns)))
    corners = zip(padded, tops, lefts, strict=True)
    return torch.stack([x[:, top : top + height, left : left + width] for x, top, left in corners])
