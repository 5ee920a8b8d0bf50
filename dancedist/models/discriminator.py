"""pix2pixHD's multi-scale PatchGAN discriminator."""

from __future__ import annotations

from torch import Tensor, nn

from dancedist.models.generator import init_weights

Features = list[Tensor]


class PatchDiscriminator(nn.Module):
    """A 70x70 PatchGAN (with three layers): each output pixel judges one patch."""

    def __init__(self, in_channels: int, filters: int, layers: int) -> None:
        super().__init__()
        widths = [min(filters * 2**i, filters * 8) for i in range(layers + 1)]
        stages: list[nn.Module] = [nn.Sequential(nn.Conv2d(in_channels, widths[0], 4, 2, 2), nn.LeakyReLU(0.2, True))]
        for i in range(1, layers + 1):
            stride = 2 if i < layers else 1
            conv = nn.Conv2d(widths[i - 1], widths[i], 4, stride, 2)
            stages.append(nn.Sequential(conv, nn.InstanceNorm2d(widths[i]), nn.LeakyReLU(0.2, True)))
        stages.append(nn.Conv2d(widths[-1], 1, 4, 1, 2))
        self.stages = nn.ModuleList(stages)

    def forward(self, x_BCHW: Tensor) -> Features:
        """(B, C, H, W) -> what every stage gives; the last is the judgement (B, 1, h, w)."""
        features: Features = []
        for stage in self.stages:
            x_BCHW = stage(x_BCHW)
            features.append(x_BCHW.float())
        return features


class Discriminator(nn.Module):
    """The same PatchGAN, with weights of its own, on the picture at `scales` sizes, each half the one before."""

    def __init__(self, in_channels: int, filters: int, layers: int, scales: int) -> None:
        super().__init__()
        self.scales = nn.ModuleList(PatchDiscriminator(in_channels, filters, layers) for _ in range(scales))
        self.halve = nn.AvgPool2d(3, stride=2, padding=1, count_include_pad=False)
        self.apply(init_weights)

    def forward(self, x_BCHW: Tensor) -> list[Features]:
        """(B, C, H, W) in [-1, 1] -> the features of every scale, the finest first."""
        out = []
        for i, scale in enumerate(self.scales):
            x_BCHW = self.halve(x_BCHW) if i else x_BCHW
            out.append(scale(x_BCHW))
        return out
