"""The FaceGAN of "Everybody Dance Now": a residual that sharpens the face of a generator which learns no more."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dancedist.models.discriminator import Discriminator
from dancedist.models.generator import encoder_decoder, init_weights
from dancedist.models.losses import least_squares
from dancedist.models.step import Judge

if TYPE_CHECKING:
    from dancedist.recipe import FaceRecipe

# The residual fades out over this part of the crop's side, so that no edge of the crop shows.
_FADE = 0.125


class FaceGenerator(nn.Module):
    """r = G_f(x_F, G(x)_F); the face is r + G(x)_F (the paper, section "Face GAN").

    One that `paints_over` gives a face f and a mask m: r = m (f - G(x)_F). The paper has no mask.
    """

    fade: Tensor

    def __init__(self, pixels: int, filters: int, downsamplings: int, blocks: int, *, paints_over: bool) -> None:
        super().__init__()
        self.paints_over = paints_over
        self.net = encoder_decoder(6, 4 if paints_over else 3, filters, downsamplings, blocks)
        self.register_buffer("fade", _fade(pixels), persistent=False)
        self.apply(init_weights)

    def forward(self, figure_B3SS: Tensor, face_B3SS: Tensor) -> Tensor:
        """Crops of figure and picture in [-1, 1] -> r, float32 (B, 3, S, S), nearly 0 at the edge."""
        out = self.net(torch.cat([figure_B3SS, face_B3SS], 1)).float()
        if not self.paints_over:
            return self.fade * torch.tanh(out)
        return self.fade * torch.sigmoid(out[:, 3:]) * (torch.tanh(out[:, :3]) - face_B3SS)


def build_face_generator(recipe: FaceRecipe) -> FaceGenerator:
    """The recipe's face generator."""
    shape = recipe.pixels, recipe.filters, recipe.downsamplings, recipe.blocks
    return FaceGenerator(*shape, paints_over=recipe.paints_over)


def build_face_discriminator(recipe: FaceRecipe) -> Discriminator:
    """D_f: one 70x70 PatchGAN on (x_F, y_F), 6 channels, frame by frame."""
    return Discriminator(6, recipe.discriminator_filters, layers=3, scales=1)


def face_losses(
    discriminator: Judge,
    judged_B6SS: Tensor,
    fake_B3SS: Tensor,
    real_B3SS: Tensor,
    perceptual: Callable[[Tensor, Tensor], Tensor] | None,
    perceptual_weight: float,
    l1_weight: float,
) -> dict[str, Tensor]:
    """G_f's weighted losses: least squares, lambda_P L_P(r + G(x)_F, y_F), and L1, which the paper has not.

    `judged`: what D_f sees of the fake, (x_F, r + G(x)_F); its parameters must take no gradients meanwhile.
    """
    losses = {"f_gan": least_squares(discriminator(judged_B6SS), True)}
    if perceptual is not None and perceptual_weight:
        losses["f_perceptual"] = perceptual_weight * perceptual(fake_B3SS, real_B3SS)
    if l1_weight:
        losses["f_l1"] = l1_weight * F.l1_loss(fake_B3SS, real_B3SS)
    return losses


def cut(picture_BCHW: Tensor, boxes_B4: Tensor, pixels: int) -> Tensor:
    """Squares of a picture, resampled: (B, C, S, S). Boxes (x0, y0, x1, y1) in its px, centres at whole numbers.

    Beyond the picture its edge is repeated.
    """
    height, width = picture_BCHW.shape[-2:]
    return _resample(picture_BCHW, _grid(boxes_B4, (pixels, pixels), (width, height)), "border")


def paste(residual_BCSS: Tensor, boxes_B4: Tensor, size: tuple[int, int]) -> Tensor:
    """The inverse: squares in their places of pictures (B, C, H, W) of a size (width, height), 0 elsewhere."""
    pixels = residual_BCSS.shape[-1]
    low, side = boxes_B4[:, :2] + 0.5, boxes_B4[:, 2:] - boxes_B4[:, :2]
    # The picture as a box in px of the square.
    ends = torch.tensor([[0.0, 0.0], [*map(float, size)]], device=boxes_B4.device)
    seen = ((ends[None] - low[:, None]) / side[:, None] * pixels - 0.5).flatten(1)
    return _resample(residual_BCSS, _grid(seen, size, (pixels, pixels)), "zeros")


def finished(face_B3SS: Tensor, painted_B1SS: Tensor, detail_B3SS: Tensor | None) -> Tensor:
    """A crop as the film shows it: with the stage's own `detail` in it where the generator painted nothing."""
    if detail_B3SS is None:
        return face_B3SS
    return (face_B3SS + (1 - painted_B1SS.clamp(0)) * detail_B3SS).clamp(-1, 1)


def _grid(boxes_B4: Tensor, out: tuple[int, int], of: tuple[int, int]) -> Tensor:
    """Sampling grid (B, h, w, 2) of `out` (width, height) points over a box in px of a picture `of` (width, height)."""
    axes = []
    for axis in (0, 1):
        low, high = boxes_B4[:, axis, None] + 0.5, boxes_B4[:, axis + 2, None] + 0.5
        centres = (torch.arange(out[axis], device=boxes_B4.device) + 0.5) / out[axis]
        axes.append((low + (high - low) * centres) / of[axis] * 2 - 1)
    x, y = axes
    return torch.stack([x[:, None, :].expand(-1, out[1], -1), y[:, :, None].expand(-1, -1, out[0])], -1)


def _resample(picture_BCHW: Tensor, grid: Tensor, beyond: str) -> Tensor:
    sampled = F.grid_sample(picture_BCHW.float(), grid.float(), "bicubic", beyond, align_corners=False)
    # A cubic swings over.
    return sampled.clamp(-1, 1)


def _fade(pixels: int) -> Tensor:
    """(1, 1, S, S): 1 inside, in a line to nearly 0 at the edge."""
    from_edge = torch.minimum(torch.arange(pixels), torch.arange(pixels - 1, -1, -1)) + 0.5
    ramp = (from_edge / (_FADE * pixels)).clamp(max=1.0)
    return (ramp[:, None] * ramp[None, :])[None, None]
