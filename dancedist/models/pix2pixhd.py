"""pix2pixHD's networks (Wang et al., CVPR 2018, section 3.2): global generator, local enhancer, discriminators."""

from __future__ import annotations

from torch import Tensor, nn

# Feature maps of one PatchGAN, float32 (B, C, h, w), in layer order; the last one holds the logits.
Features = list[Tensor]


class ResidualBlock(nn.Module):
    """x + f(x) with two 3x3 convolutions and instance norm."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.ReflectionPad2d(1), nn.Conv2d(channels, channels, 3), nn.InstanceNorm2d(channels), nn.ReLU(True),
            nn.ReflectionPad2d(1), nn.Conv2d(channels, channels, 3), nn.InstanceNorm2d(channels),
        )  # fmt: skip

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """float features (B, C, H, W) -> the same shape."""
        out: Tensor = x_BCHW + self.body(x_BCHW)
        return out


def stem(in_channels: int, filters: int) -> nn.Sequential:
    """First layer, a 7x7 convolution: (B, in, H, W) -> (B, filters, H, W)."""
    # The convolution's index, 2, is part of its name in stored weights.
    return nn.Sequential(
        nn.Identity(),
        nn.ReflectionPad2d(3),
        nn.Conv2d(in_channels, filters, 7),
        nn.InstanceNorm2d(filters),
        nn.ReLU(True),
    )  # fmt: skip


def downsample(channels: int) -> nn.Sequential:
    """Strided 3x3 convolution: half the size, twice the channels."""
    conv = nn.Conv2d(channels, 2 * channels, 3, stride=2, padding=1)
    return nn.Sequential(conv, nn.InstanceNorm2d(2 * channels), nn.ReLU(True))


def upsample(channels: int) -> nn.Sequential:
    """Transposed 3x3 convolution: twice the size, half the channels."""
    conv = nn.ConvTranspose2d(channels, channels // 2, 3, stride=2, padding=1, output_padding=1)
    return nn.Sequential(conv, nn.InstanceNorm2d(channels // 2), nn.ReLU(True))


def head(filters: int, out_channels: int) -> nn.Sequential:
    """Last layer, a 7x7 convolution without activation: (B, filters, H, W) -> (B, out, H, W)."""
    return nn.Sequential(nn.ReflectionPad2d(3), nn.Conv2d(filters, out_channels, 7))


def global_generator(stem: nn.Module, head: nn.Module, filters: int, downsamplings: int, blocks: int) -> nn.Sequential:
    """The global generator G1 (section 3.2, "Coarse-to-fine generator"): encoder, residual blocks, decoder.

    `stem` outputs `filters` channels, each downsampling doubles them; `head` takes `filters` channels.
    """
    widths = [filters * 2**i for i in range(downsamplings + 1)]
    return nn.Sequential(
        stem,
        *(downsample(width) for width in widths[:-1]),
        *(ResidualBlock(widths[-1]) for _ in range(blocks)),
        *(upsample(width) for width in reversed(widths[1:])),
        head,
    )


class LocalEnhancer(nn.Module):
    """The local enhancer G2 around the global generator G1 (section 3.2 and figure 3), at twice G1's size.

    G1 gets the picture at half size. G1's last feature map, the input of its head, is added to G2's encoder features
    (the output of `front`); G1's head itself is removed.
    """

    def __init__(self, coarse: nn.Sequential, stem: nn.Module, head: nn.Module, filters: int, blocks: int) -> None:
        """`coarse` is G1; it has twice as many filters as G2."""
        super().__init__()
        self.coarse = coarse[:-1]
        self.halve = nn.AvgPool2d(3, stride=2, padding=1, count_include_pad=False)
        self.front = nn.Sequential(stem, downsample(filters))
        self.back = nn.Sequential(*(ResidualBlock(2 * filters) for _ in range(blocks)), upsample(2 * filters), head)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """float (B, in, H, W), inputs in [-1, 1] -> float (B, out, H, W), before the activation."""
        out: Tensor = self.back(self.front(x_BCHW) + self.coarse(self.halve(x_BCHW)))
        return out


class PatchDiscriminator(nn.Module):
    """A PatchGAN (Isola et al., CVPR 2017); with three layers each logit classifies a patch of 70x70 px."""

    def __init__(self, in_channels: int, filters: int, layers: int) -> None:
        super().__init__()
        widths = [min(filters * 2**i, filters * 8) for i in range(layers + 1)]
        stages: list[nn.Module] = [nn.Sequential(nn.Conv2d(in_channels, widths[0], 4, 2, 2), nn.LeakyReLU(0.2, True))]
        for i in range(1, layers + 1):
            stride = 2 if i < layers else 1
            conv = nn.Conv2d(widths[i - 1], widths[i], 4, stride, 2)
            stages.append(nn.Sequential(conv, nn.InstanceNorm2d(widths[i]), nn.LeakyReLU(0.2, True)))
        stages.append(nn.Conv2d(widths[-1], 1, 4, 1, 2))
        # Named `stages` in stored checkpoints.
        self.stages = nn.ModuleList(stages)

    def forward(self, x_BCHW: Tensor) -> Features:
        """float (B, C, H, W) -> features of every layer, float32; the last are the logits (B, 1, h, w)."""
        features: Features = []
        for layer in self.stages:
            x_BCHW = layer(x_BCHW)
            features.append(x_BCHW.float())
        return features


class Discriminator(nn.Module):
    """Multi-scale discriminators (section 3.2): one PatchGAN for each of `scales` sizes, each half the one before."""

    def __init__(self, in_channels: int, filters: int, layers: int, scales: int) -> None:
        super().__init__()
        self.scales = nn.ModuleList(PatchDiscriminator(in_channels, filters, layers) for _ in range(scales))
        self.halve = nn.AvgPool2d(3, stride=2, padding=1, count_include_pad=False)
        self.apply(init_weights)

    def forward(self, x_BCHW: Tensor) -> list[Features]:
        """float (B, C, H, W) in [-1, 1] -> features of every scale, the finest first."""
        out = []
        for i, scale in enumerate(self.scales):
            x_BCHW = self.halve(x_BCHW) if i else x_BCHW
            out.append(scale(x_BCHW))
        return out


def init_weights(module: nn.Module) -> None:
    """Initialise a convolution: weights normal with standard deviation 0.02, as in pix2pixHD; biases 0."""
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
        nn.init.normal_(module.weight, 0.0, 0.02)
        assert module.bias is not None
        nn.init.zeros_(module.bias)
