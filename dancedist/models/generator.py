"""pix2pixHD's generators, global and local, on a stick figure and the generator's own last picture."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

if TYPE_CHECKING:
    from dancedist.recipe import Recipe

# Channels of the last layer's input where the network works on patches.
_FINE_FILTERS = 8
# A dancer reaches beyond the figure by this part of the longer side of what the network sees: a hand, hair, a skirt.
_REACH = 7


class ResidualBlock(nn.Module):
    """x + f(x), f two 3x3 convolutions with instance norm."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.ReflectionPad2d(1), nn.Conv2d(channels, channels, 3), nn.InstanceNorm2d(channels), nn.ReLU(True),
            nn.ReflectionPad2d(1), nn.Conv2d(channels, channels, 3), nn.InstanceNorm2d(channels),
        )  # fmt: skip

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """(B, C, H, W) -> the same shape."""
        out: Tensor = x_BCHW + self.body(x_BCHW)
        return out


def halving(channels: int) -> nn.Sequential:
    """Half the size, twice the channels."""
    conv = nn.Conv2d(channels, 2 * channels, 3, stride=2, padding=1)
    return nn.Sequential(conv, nn.InstanceNorm2d(2 * channels), nn.ReLU(True))


def doubling(channels: int) -> nn.Sequential:
    """Twice the size, half the channels."""
    conv = nn.ConvTranspose2d(channels, channels // 2, 3, stride=2, padding=1, output_padding=1)
    return nn.Sequential(conv, nn.InstanceNorm2d(channels // 2), nn.ReLU(True))


def entry(in_channels: int, filters: int, patch: int) -> nn.Sequential:
    """One convolution, 7 px wide; on patches 3 patches wide."""
    kernel = 7 if patch == 1 else 3
    conv = nn.Conv2d(in_channels * patch**2, filters, kernel)
    pad = nn.ReflectionPad2d(kernel // 2)
    return nn.Sequential(nn.PixelUnshuffle(patch), pad, conv, nn.InstanceNorm2d(filters), nn.ReLU(True))


def exit_(filters: int, out_channels: int, patch: int) -> nn.Sequential:
    """The entry backwards, without activation at its end. Patches are smoothed over their joints by one more layer."""
    if patch == 1:
        return nn.Sequential(nn.ReflectionPad2d(3), nn.Conv2d(filters, out_channels, 7))
    to_pixels = nn.Sequential(
        nn.ReflectionPad2d(1), nn.Conv2d(filters, _FINE_FILTERS * patch**2, 3), nn.PixelShuffle(patch)
    )
    return nn.Sequential(to_pixels, nn.ReLU(True), nn.ReflectionPad2d(1), nn.Conv2d(_FINE_FILTERS, out_channels, 3))


class Generator(nn.Module):
    """G(x_t, y'_{t-1}) of "Everybody Dance Now": the picture for a figure and the last picture.

    `net` maps both (B, 6, H, W) to (B, 3, H, W), or to 4 channels where it `paints_over` a backdrop: what never moves
    need not be drawn. The paper has no backdrop.
    """

    def __init__(self, net: nn.Module, *, paints_over: bool) -> None:
        super().__init__()
        self.net, self.paints_over = net, paints_over

    def forward(self, figure_B3HW: Tensor, last_B3HW: Tensor, backdrop_B3HW: Tensor | None = None) -> Tensor:
        """Figure x_t and last picture y'_{t-1} (zeros at the first frame), in [-1, 1] -> y'_t, float32 (B, 3, H, W).

        `backdrop`: what stands behind the dancer, for a generator that paints over it.
        """
        return self.paint(figure_B3HW, last_B3HW, backdrop_B3HW)[0]

    def paint(
        self, figure_B3HW: Tensor, last_B3HW: Tensor, backdrop_B3HW: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """`forward`, and where it painted: (B, 1, H, W) in [0, 1], 0 where the backdrop shows (1 without one)."""
        assert self.paints_over == (backdrop_B3HW is not None)
        out = self.net(torch.cat([figure_B3HW, last_B3HW], 1)).float()
        if backdrop_B3HW is None:
            return torch.tanh(out), torch.ones_like(out[:, :1])
        mask = torch.sigmoid(out[:, 3:]) * reach(figure_B3HW)
        return mask * torch.tanh(out[:, :3]) + (1 - mask) * backdrop_B3HW, mask


def encoder_decoder(
    in_channels: int, out_channels: int, filters: int, downsamplings: int, blocks: int, patch: int = 1
) -> nn.Sequential:
    """pix2pixHD's global generator (Wang et al., CVPR 2018, section 3.1): (B, in, H, W) -> (B, out, H, W).

    With `patch` over 1 (not in the paper) it works on patches of that many pixels a side (pixel unshuffle, shuffle).
    """
    widths = [filters * 2**i for i in range(downsamplings + 1)]
    return nn.Sequential(
        entry(in_channels, filters, patch),
        *(halving(width) for width in widths[:-1]),
        *(ResidualBlock(widths[-1]) for _ in range(blocks)),
        *(doubling(width) for width in reversed(widths[1:])),
        exit_(filters, out_channels, patch),
    )


class LocalEnhancer(nn.Module):
    """pix2pixHD's local enhancer G2 round its global generator G1 (section 3.1 and figure 3 there), at twice the size.

    What G1 feels of the halved picture just before its exit, which is left out, is added to what G2's front feels.
    """

    def __init__(self, coarse: nn.Sequential, out_channels: int, filters: int, blocks: int, patch: int = 1) -> None:
        super().__init__()
        self.coarse = coarse[:-1]
        self.halve = nn.AvgPool2d(3, stride=2, padding=1, count_include_pad=False)
        self.front = nn.Sequential(entry(6, filters, patch), halving(filters))
        self.back = nn.Sequential(
            *(ResidualBlock(2 * filters) for _ in range(blocks)),
            doubling(2 * filters),
            exit_(filters, out_channels, patch),
        )

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """(B, 6, H, W) -> (B, out_channels, H, W)."""
        out: Tensor = self.back(self.front(x_BCHW) + self.coarse(self.halve(x_BCHW)))
        return out


def reach(figure_B3HW: Tensor) -> Tensor:
    """Where a dancer may be seen, told from the stick figure in [-1, 1]: (B, 1, H, W), 1 near it, softly 0 elsewhere.

    A network of few steps leaves hands and feet lying about; none are that far from the figure.
    """
    radius = max(figure_B3HW.shape[-2:]) // _REACH
    lit = (figure_B3HW.amax(1, keepdim=True) > -1).to(figure_B3HW.dtype)
    wide = F.max_pool2d(lit, (1, 2 * radius + 1), 1, (0, radius))
    near = F.max_pool2d(wide, (2 * radius + 1, 1), 1, (radius, 0))
    soft = radius // 3
    return F.avg_pool2d(near, 2 * soft + 1, 1, soft, count_include_pad=False)


def build_generator(recipe: Recipe) -> Generator:
    """The generator that the recipe's last stage but the face's leaves."""
    g = recipe.generator
    channels = 4 if g.backdrop else 3
    net: nn.Module = (coarse := encoder_decoder(6, channels, g.filters, g.downsamplings, g.blocks, g.patch))
    if "local" in recipe.stages:
        net = LocalEnhancer(coarse, channels, g.filters // 2, recipe.local.blocks, g.patch)
    generator = Generator(net, paints_over=g.backdrop)
    generator.apply(init_weights)
    return generator


def renamed(weights: Mapping[str, Tensor], *, local: bool) -> dict[str, Tensor]:
    """A generator's weights under the names of one with a local enhancer, or without: what only one has is left out."""
    inner, outer = "net.", "net.coarse."
    if not weights or any(name.startswith(outer) for name in weights) == local:
        return dict(weights)
    if not local:
        return {name.replace(outer, inner, 1): w for name, w in weights.items() if name.startswith(outer)}
    last = max(int(name.split(".")[1]) for name in weights)
    return {name.replace(inner, outer, 1): w for name, w in weights.items() if int(name.split(".")[1]) < last}


def init_weights(module: nn.Module) -> None:
    """As pix2pixHD draws them: N(0, 0.02), biases 0."""
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
        nn.init.normal_(module.weight, 0.0, 0.02)
        assert module.bias is not None
        nn.init.zeros_(module.bias)
