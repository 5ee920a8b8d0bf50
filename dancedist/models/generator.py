"""The generator of "Everybody Dance Now" (section 3.2), around one of pix2pixHD's networks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn


class Generator(nn.Module):
    """G(x_t, y'_{t-1}): the picture for a skeleton, given the picture generated before it.

    `net` maps both, (B, 6, H, W), to (B, 3, H, W).
    """

    predicts_mask: ClassVar[bool] = False

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, figure_B3HW: Tensor, last_B3HW: Tensor, background_B3HW: Tensor | None = None) -> Tensor:
        """Skeleton x_t and last picture y'_{t-1} (zeros at the first frame), in [-1, 1] -> y'_t, float32 (B, 3, H, W).

        `background` in [-1, 1] is for a generator that draws the dancer over it (windowed.py).
        """
        return self.paint(figure_B3HW, last_B3HW, background_B3HW)[0]

    def paint(
        self, figure_B3HW: Tensor, last_B3HW: Tensor, background_B3HW: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """`forward` and alpha, float32 (B, 1, H, W) in [0, 1]: the part of each pixel that the generator drew."""
        assert background_B3HW is None
        out = self.net(torch.cat([figure_B3HW, last_B3HW], 1)).float()
        return torch.tanh(out), torch.ones_like(out[:, :1])


def remap_state_dict(weights: Mapping[str, Tensor], *, local: bool) -> dict[str, Tensor]:
    """Rename a generator's weights for a network with (`local`) or without a local enhancer.

    Weights that this network does not have are dropped.
    """
    inner, outer = "net.", "net.coarse."
    if not weights or any(name.startswith(outer) for name in weights) == local:
        return dict(weights)
    if not local:
        return {name.replace(outer, inner, 1): w for name, w in weights.items() if name.startswith(outer)}
    last = max(int(name.split(".")[1]) for name in weights)
    return {name.replace(inner, outer, 1): w for name, w in weights.items() if int(name.split(".")[1]) < last}
