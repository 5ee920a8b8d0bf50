"""pix2pixHD's global generator, on a stick figure and the generator's own last picture."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dancedist.recipe import GeneratorRecipe


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


def encoder(in_channels: int, filters: int, downsamplings: int) -> nn.Sequential:
    """7x7 convolution, then `downsamplings` halvings that double the channels."""
    layers: list[nn.Module] = [nn.ReflectionPad2d(3), nn.Conv2d(in_channels, filters, 7), nn.InstanceNorm2d(filters)]
    layers.append(nn.ReLU(True))
    for i in range(downsamplings):
        here, there = filters * 2**i, filters * 2 ** (i + 1)
        layers += [nn.Conv2d(here, there, 3, stride=2, padding=1), nn.InstanceNorm2d(there), nn.ReLU(True)]
    return nn.Sequential(*layers)


def decoder(out_channels: int, filters: int, upsamplings: int) -> nn.Sequential:
    """The encoder backwards; no activation at its end."""
    layers: list[nn.Module] = []
    for i in reversed(range(upsamplings)):
        here, there = filters * 2 ** (i + 1), filters * 2**i
        layers += [nn.ConvTranspose2d(here, there, 3, stride=2, padding=1, output_padding=1)]
        layers += [nn.InstanceNorm2d(there), nn.ReLU(True)]
    return nn.Sequential(*layers, nn.ReflectionPad2d(3), nn.Conv2d(filters, out_channels, 7))


class Generator(nn.Module):
    """G(x_t, y'_{t-1}) of "Everybody Dance Now": the picture for a figure and the last picture.

    With `patch` over 1 the network works on patches of that many pixels a side (pixel unshuffle in, shuffle out).
    With a `backdrop` (3, H, W) it also gives a mask and paints over that picture: what never moves need not be
    drawn. The paper has neither (patch 1, no backdrop).
    """

    backdrop: Tensor | None

    def __init__(
        self, filters: int, downsamplings: int, blocks: int, *, patch: int = 1, backdrop: Tensor | None = None
    ) -> None:
        super().__init__()
        out_channels = 3 if backdrop is None else 4
        self.patch = patch
        self.net = nn.Sequential(
            encoder(6 * patch**2, filters, downsamplings),
            *(ResidualBlock(filters * 2**downsamplings) for _ in range(blocks)),
            decoder(out_channels * patch**2, filters, downsamplings),
        )
        # Not a parameter: learned, it takes in a ghost of a dancer who mostly stays put.
        self.register_buffer("backdrop", None if backdrop is None else backdrop.clone())
        self.apply(_init_weights)

    def forward(self, figure_B3HW: Tensor, last_B3HW: Tensor, shift: tuple[int, int] = (0, 0)) -> Tensor:
        """Figure x_t and last picture y'_{t-1} (zeros at the first frame), in [-1, 1] -> y'_t, float32 (B, 3, H, W).

        `shift` (y, x) px: figure and picture are rolled by so much, and the backdrop with them.
        """
        return self.paint(figure_B3HW, last_B3HW, shift)[0]

    def paint(self, figure_B3HW: Tensor, last_B3HW: Tensor, shift: tuple[int, int] = (0, 0)) -> tuple[Tensor, Tensor]:
        """`forward`, and where it painted: (B, 1, H, W) in [0, 1], 0 where the backdrop shows (1 without one)."""
        x = torch.cat([figure_B3HW, last_B3HW], 1)
        if self.patch == 1:
            out = self.net(x)
        else:
            out = nn.functional.pixel_shuffle(self.net(nn.functional.pixel_unshuffle(x, self.patch)), self.patch)
        out = out.float()
        if self.backdrop is None:
            return torch.tanh(out), torch.ones_like(out[:, :1])
        mask = torch.sigmoid(out[:, 3:])
        backdrop = torch.roll(self.backdrop, shift, (-2, -1))
        return mask * torch.tanh(out[:, :3]) + (1 - mask) * backdrop, mask


def build_generator(recipe: GeneratorRecipe, backdrop_3HW: Tensor | None) -> Generator:
    """The recipe's generator; `backdrop` (3, H, W) in [-1, 1] where the recipe has one, else None."""
    assert recipe.backdrop == (backdrop_3HW is not None)
    return Generator(recipe.filters, recipe.downsamplings, recipe.blocks, patch=recipe.patch, backdrop=backdrop_3HW)


def _init_weights(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
        nn.init.normal_(module.weight, 0.0, 0.02)
        assert module.bias is not None
        nn.init.zeros_(module.bias)
