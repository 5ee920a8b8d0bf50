"""Not in the paper, for the preset `quick`: a network on patches of pixels, and a mask over a known background."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dancedist.models.generator import Generator

# Input channels of the last layer of a network on patches.
_FINE_FILTERS = 8
# The dancer may extend beyond the skeleton by 1 / _SUPPORT of the longer side of the picture: hands, hair, a skirt.
_SUPPORT = 7


def patch_stem(in_channels: int, filters: int, patch: int) -> nn.Sequential:
    """First layer on patches: (B, in, H, W) -> (B, filters, H / patch, W / patch).

    A patch's pixels become input channels of a 3x3 convolution.
    """
    conv = nn.Conv2d(in_channels * patch**2, filters, 3)
    return nn.Sequential(
        nn.PixelUnshuffle(patch), nn.ReflectionPad2d(1), conv, nn.InstanceNorm2d(filters), nn.ReLU(True)
    )


def patch_head(filters: int, out_channels: int, patch: int) -> nn.Sequential:
    """Last layers on patches: (B, filters, H / patch, W / patch) -> (B, out, H, W), without activation.

    The second convolution smooths the borders between patches.
    """
    to_pixels = nn.Sequential(
        nn.ReflectionPad2d(1), nn.Conv2d(filters, _FINE_FILTERS * patch**2, 3), nn.PixelShuffle(patch)
    )
    return nn.Sequential(to_pixels, nn.ReLU(True), nn.ReflectionPad2d(1), nn.Conv2d(_FINE_FILTERS, out_channels, 3))


class MaskedGenerator(Generator):
    """A generator that draws the dancer only, over a given background that need not be learnt.

    `net` has a fourth output channel, the logits of the mask.
    """

    predicts_mask = True

    def paint(
        self, figure_B3HW: Tensor, last_B3HW: Tensor, background_B3HW: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """See Generator. Requires the background; alpha is 0 where it shows."""
        assert background_B3HW is not None
        out = self.net(torch.cat([figure_B3HW, last_B3HW], 1)).float()
        alpha = torch.sigmoid(out[:, 3:]) * mask_support(figure_B3HW)
        return alpha * torch.tanh(out[:, :3]) + (1 - alpha) * background_B3HW, alpha


def mask_support(figure_B3HW: Tensor) -> Tensor:
    """Where the dancer may be drawn: float (B, 1, H, W), 1 near the skeleton, falling smoothly to 0 away from it.

    The skeleton is float (B, 3, H, W) in [-1, 1]. After a short training a generator draws stray hands and feet;
    those far from the skeleton are removed.
    """
    radius = max(figure_B3HW.shape[-2:]) // _SUPPORT
    drawn = (figure_B3HW.amax(1, keepdim=True) > -1).to(figure_B3HW.dtype)
    wide = F.max_pool2d(drawn, (1, 2 * radius + 1), 1, (0, radius))
    near = F.max_pool2d(wide, (2 * radius + 1, 1), 1, (radius, 0))
    soft = radius // 3
    return F.avg_pool2d(near, 2 * soft + 1, 1, soft, count_include_pad=False)
