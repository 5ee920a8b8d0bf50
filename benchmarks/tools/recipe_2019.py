"""What a user would run instead: the 2019 recipe in plain eager fp32 PyTorch, one pair a step, pictures as PNG files.

The same networks as ours, from dancedist.gan; everything round them as pix2pixHD's code and the authors' do it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor

from dancedist.models.discriminator import Discriminator
from dancedist.models.generator import Generator
from dancedist.models.losses import Perceptual, feature_matching, least_squares

ADAM = {"lr": 2e-4, "betas": (0.5, 0.999)}


class Training2019:
    """Three passes through the discriminator a step, the VGG on each frame by itself."""

    def __init__(self, generator: Generator, discriminator: Discriminator, vgg: Perceptual) -> None:
        self.generator, self.discriminator, self.vgg = generator, discriminator, vgg
        self.of_generator = torch.optim.Adam(generator.parameters(), **ADAM)
        self.of_discriminator = torch.optim.Adam(discriminator.parameters(), **ADAM)

    def step(self, figures_123HW: Tensor, truth_123HW: Tensor) -> None:
        """One pair."""
        figures, truth = figures_123HW[0], truth_123HW[0]
        first = self.generator(figures[:1], torch.zeros_like(truth[:1]))
        second = self.generator(figures[1:], first)
        pairs = ((first, second), (truth[:1], truth[1:]))
        fake, real = (torch.cat([figures[:1], figures[1:], *pair], 1) for pair in pairs)
        of_fake = self.discriminator(fake.detach())
        of_real = self.discriminator(real)
        judged = self.discriminator(fake)
        loss_d = (least_squares(of_fake, False) + least_squares(of_real, True)) / 2
        loss_g = least_squares(judged, True) + 10 * feature_matching(judged, of_real)
        for made, true in ((first, truth[:1]), (second, truth[1:])):
            loss_g = loss_g + 5 * self.vgg(made, true)
        self.of_generator.zero_grad()
        loss_g.backward()
        self.of_generator.step()
        self.of_discriminator.zero_grad()
        loss_d.backward()
        self.of_discriminator.step()


def read_png(path: Path) -> Tensor:
    """(1, 3, H, W) in [-1, 1]."""
    rgb = np.ascontiguousarray(cv2.imread(str(path))[..., ::-1])
    return torch.from_numpy(rgb).permute(2, 0, 1)[None].float() / 127.5 - 1


def write_png(path: Path, picture_13HW: Tensor) -> None:
    """The inverse."""
    rgb = ((picture_13HW[0].permute(1, 2, 0) + 1) * 127.5).clamp(0, 255).byte().cpu().numpy()
    cv2.imwrite(str(path), rgb[..., ::-1])


@torch.no_grad()
def render_2019(generator: Generator, figures: Sequence[Path], out: Path, device: str = "cpu") -> None:
    """The test loop: a figure's PNG in, a frame's PNG out, each from the frame before."""
    last = None
    for path in figures:
        figure = read_png(path).to(device)
        last = generator(figure, torch.zeros_like(figure) if last is None else last)
        write_png(out / path.name, last)
