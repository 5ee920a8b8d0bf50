"""The losses of "Everybody Dance Now" as pure functions."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from dancedist.models.pix2pixhd import Features

Backbone = Literal["vgg19", "vgg16"]
# Convolutions per VGG stage; pooling separates the stages.
_STAGES = {"vgg16": (2, 2, 3, 3, 3), "vgg19": (2, 2, 4, 4, 4)}
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def least_squares(outputs: Sequence[Features], is_real: bool) -> Tensor:
    """LSGAN: mean squared distance of the logits from 1 (real) or 0 (fake), summed over the scales.

    Each scale's last feature map, float32 (B, 1, h, w), holds the logits. Returns a float32 scalar.
    """
    goal = 1.0 if is_real else 0.0
    return torch.stack([((features[-1] - goal) ** 2).mean() for features in outputs]).sum()


def feature_matching(fake: Sequence[Features], real: Sequence[Features]) -> Tensor:
    """L1 between the discriminator's features of fake and real (pix2pixHD eq. 4), mean over layers and scales.

    Features are float32 (B, C, h, w); each scale's last map, the logits, does not count. Times 4, as in pix2pixHD's
    code. Returns a float32 scalar.
    """
    per_scale = [
        torch.stack([F.l1_loss(f, r.detach()) for f, r in zip(fakes[:-1], reals[:-1], strict=True)]).mean()
        for fakes, reals in zip(fake, real, strict=True)
    ]
    return 4 * torch.stack(per_scale).mean()


class Perceptual(nn.Module):
    """L1 between VGG features (Johnson et al. 2016) at the first ReLU of each VGG stage, with pix2pixHD's weights."""

    weights = (1 / 32, 1 / 16, 1 / 8, 1 / 4, 1.0)
    mean: Tensor
    std: Tensor

    def __init__(
        self, backbone: Backbone, state: dict[str, Tensor], stages: int = 5, *, one_by_one: bool = False
    ) -> None:
        """`state` has torchvision's keys (`features.N.weight`); fewer than 5 `stages` leave out the deepest.

        `one_by_one` computes one picture at a time with activation checkpointing: less memory, more time.
        """
        super().__init__()
        self.one_by_one = one_by_one
        self.slices = _vgg_slices(backbone, state)[:stages]
        self.register_buffer("mean", torch.tensor(_MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(_STD).view(1, 3, 1, 1), persistent=False)
        self.requires_grad_(False).eval()

    def forward(self, fake_B3HW: Tensor, real_B3HW: Tensor) -> Tensor:
        """Pictures, float (B, 3, H, W) in [-1, 1] -> loss, a float32 scalar."""
        if not self.one_by_one:
            return self._distance(fake_B3HW, real_B3HW)
        pairs = zip(fake_B3HW[:, None], real_B3HW[:, None], strict=True)
        checkpointed = partial(checkpoint, self._distance, use_reentrant=False, preserve_rng_state=False)
        return torch.stack([checkpointed(fake, real) for fake, real in pairs]).mean()

    def _distance(self, fake_B3HW: Tensor, real_B3HW: Tensor) -> Tensor:
        fake, real = ((((x + 1) / 2) - self.mean) / self.std for x in (fake_B3HW, real_B3HW))
        total = fake.new_zeros((), dtype=torch.float32)
        for part, weight in zip(self.slices, self.weights, strict=False):
            fake = part(fake)
            with torch.no_grad():
                real = part(real)
            total = total + weight * F.l1_loss(fake.float(), real.float())
        return total


def _vgg_slices(backbone: Backbone, state: dict[str, Tensor]) -> nn.ModuleList:
    """VGG in five slices that end at relu1_1, relu2_1, ... relu5_1."""
    slices, index = nn.ModuleList(), 0
    part: list[nn.Module] = []
    for stage, convolutions in enumerate(_STAGES[backbone]):
        if stage:
            part.append(nn.MaxPool2d(2))
            index += 1
        for i in range(convolutions):
            weight, bias = state[f"features.{index}.weight"].float(), state[f"features.{index}.bias"].float()
            conv = nn.Conv2d(weight.shape[1], weight.shape[0], 3, padding=1)
            conv.load_state_dict({"weight": weight, "bias": bias})
            part += [conv, nn.ReLU()]
            index += 2
            if i == 0:
                slices.append(nn.Sequential(*part))
                part = []
    return slices
