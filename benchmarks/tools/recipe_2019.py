"""The reference side: the 2019 recipe in eager fp32 PyTorch, one pair per step, pictures as PNG files.

The networks are ours, from dancedist.models; everything around them follows the code of pix2pixHD and of the paper.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor

from dancedist.models.generator import Generator
from dancedist.models.losses import Perceptual, feature_matching, least_squares
from dancedist.models.pix2pixhd import Discriminator

ADAM = {"lr": 2e-4, "betas": (0.5, 0.999)}


class Training2019:
    """The 2019 training step: three discriminator passes, and the VGG on each frame separately."""

    def __init__(self, generator: Generator, discriminator: Discriminator, vgg: Perceptual) -> None:
        self.generator, self.discriminator, self.vgg = generator, discriminator, vgg
        self.generator_optimiser = torch.optim.Adam(generator.parameters(), **ADAM)
        self.discriminator_optimiser = torch.optim.Adam(discriminator.parameters(), **ADAM)

    def step(self, figures_123HW: Tensor, truth_123HW: Tensor) -> None:
        """Train on one pair: figures and truth, float32 (1, 2, 3, H, W) in [-1, 1]."""
        figures, truth = figures_123HW[0], truth_123HW[0]
        first = self.generator(figures[:1], torch.zeros_like(truth[:1]))
        second = self.generator(figures[1:], first)
        pairs = ((first, second), (truth[:1], truth[1:]))
        fake, real = (torch.cat([figures[:1], figures[1:], *pair], 1) for pair in pairs)
        fake_output = self.discriminator(fake.detach())
        real_output = self.discriminator(real)
        generator_output = self.discriminator(fake)
        loss_d = (least_squares(fake_output, False) + least_squares(real_output, True)) / 2
        loss_g = least_squares(generator_output, True) + 10 * feature_matching(generator_output, real_output)
        for generated, true in ((first, truth[:1]), (second, truth[1:])):
            loss_g = loss_g + 5 * self.vgg(generated, true)
        self.generator_optimiser.zero_grad()
        loss_g.backward()
        self.generator_optimiser.step()
        self.discriminator_optimiser.zero_grad()
        loss_d.backward()
        self.discriminator_optimiser.step()


def read_png(path: Path) -> Tensor:
    """Read a picture, float32 (1, 3, H, W) in [-1, 1]."""
    rgb = np.ascontiguousarray(cv2.imread(str(path))[..., ::-1])
    return torch.from_numpy(rgb).permute(2, 0, 1)[None].float() / 127.5 - 1


def write_png(path: Path, picture_13HW: Tensor) -> None:
    """Write a picture, float (1, 3, H, W) in [-1, 1]."""
    rgb = ((picture_13HW[0].permute(1, 2, 0) + 1) * 127.5).clamp(0, 255).byte().cpu().numpy()
    cv2.imwrite(str(path), rgb[..., ::-1])


@torch.no_grad()
def render_2019(generator: Generator, figures: Sequence[Path], out: Path, device: str = "cpu") -> None:
    """The 2019 test loop: PNG figures in, PNG frames out, each from the frame before."""
    last = None
    for path in figures:
        figure = read_png(path).to(device)
        last = generator(figure, torch.zeros_like(figure) if last is None else last)
        write_png(out / path.name, last)
