"""The Face GAN of "Everybody Dance Now" (section 3.2, "Face GAN"): a residual on the face of the rendered picture.

It is trained after the generator, whose weights stay as they are.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dancedist.models.losses import least_squares
from dancedist.models.pix2pixhd import Discriminator, global_generator, head, init_weights, stem
from dancedist.models.step import DiscriminatorFn

if TYPE_CHECKING:
    from dancedist.recipe.schema import FaceRecipe

# The residual fades out over this part of the crop's side, so that the edge of the crop is not visible.
_FADE = 0.125


class FaceGenerator(nn.Module):
    """The face generator: r = G_f(x_F, G(x)_F); the final face is r + G(x)_F (section 3.2, "Face GAN").

    With `predicts_mask` the network predicts a face f and a mask m, and r = m (f - G(x)_F). The paper has no mask.
    """

    fade: Tensor

    def __init__(self, pixels: int, filters: int, downsamplings: int, blocks: int, *, predicts_mask: bool) -> None:
        super().__init__()
        self.predicts_mask = predicts_mask
        ends = stem(6, filters), head(filters, 4 if predicts_mask else 3)
        self.net = global_generator(*ends, filters, downsamplings, blocks)
        self.register_buffer("fade", _fade(pixels), persistent=False)
        self.apply(init_weights)

    def forward(self, figure_B3SS: Tensor, face_B3SS: Tensor) -> Tensor:
        """Crops of skeleton and picture in [-1, 1] -> r, float32 (B, 3, S, S), close to 0 at the edge."""
        out = self.net(torch.cat([figure_B3SS, face_B3SS], 1)).float()
        if not self.predicts_mask:
            return self.fade * torch.tanh(out)
        return self.fade * torch.sigmoid(out[:, 3:]) * (torch.tanh(out[:, :3]) - face_B3SS)


def build_face_generator(recipe: FaceRecipe) -> FaceGenerator:
    """G_f for a recipe (section 3.2, "Face GAN")."""
    shape = recipe.pixels, recipe.filters, recipe.downsamplings, recipe.blocks
    return FaceGenerator(*shape, predicts_mask=recipe.predicts_mask)


def build_face_discriminator(recipe: FaceRecipe) -> Discriminator:
    """D_f for a recipe (section 3.2, "Face GAN"): one 70x70 PatchGAN on (x_F, y_F), 6 channels, frame by frame."""
    return Discriminator(6, recipe.discriminator_filters, layers=3, scales=1)


def face_losses(
    discriminator: DiscriminatorFn,
    input_B6SS: Tensor,
    fake_B3SS: Tensor,
    real_B3SS: Tensor,
    perceptual: Callable[[Tensor, Tensor], Tensor] | None,
    perceptual_weight: float,
    l1_weight: float,
) -> dict[str, Tensor]:
    """G_f's weighted losses by name: adversarial, lambda_P L_P(r + G(x)_F, y_F), and L1 (section 3.3, eq. 5).

    The adversarial loss is LSGAN's; the paper has no L1. `input` float (B, 6, S, S) is D_f's input for the fake,
    (x_F, r + G(x)_F), and D_f's parameters must not require gradients. `fake` and `real` are float32 (B, 3, S, S) in
    [-1, 1]. The losses are float32 scalars.
    """
    losses = {"f_gan": least_squares(discriminator(input_B6SS), True)}
    if perceptual is not None and perceptual_weight:
        losses["f_perceptual"] = perceptual_weight * perceptual(fake_B3SS, real_B3SS)
    if l1_weight:
        losses["f_l1"] = l1_weight * F.l1_loss(fake_B3SS, real_B3SS)
    return losses


def crop_square(picture_BCHW: Tensor, boxes_B4: Tensor, pixels: int) -> Tensor:
    """Crop squares of pictures: float (B, C, H, W) in [-1, 1] -> float32 (B, C, S, S), resampled.

    Boxes (x0, y0, x1, y1) are in px of the picture; pixel centres are at whole numbers. Beyond the picture its edge
    is repeated.
    """
    height, width = picture_BCHW.shape[-2:]
    return _resample(picture_BCHW, _grid(boxes_B4, (pixels, pixels), (width, height)), "border")


def paste_square(residual_BCSS: Tensor, boxes_B4: Tensor, size: tuple[int, int]) -> Tensor:
    """The inverse of `crop_square`: float (B, C, S, S) in [-1, 1] -> float32 (B, C, H, W), 0 outside the boxes.

    `size` is (width, height) px.
    """
    pixels = residual_BCSS.shape[-1]
    low, side = boxes_B4[:, :2] + 0.5, boxes_B4[:, 2:] - boxes_B4[:, :2]
    # The whole picture as a box in px of the square.
    ends = torch.tensor([[0.0, 0.0], [*map(float, size)]], device=boxes_B4.device)
    picture_boxes = ((ends[None] - low[:, None]) / side[:, None] * pixels - 0.5).flatten(1)
    return _resample(residual_BCSS, _grid(picture_boxes, size, (pixels, pixels)), "zeros")


def add_background_detail(face_B3SS: Tensor, alpha_B1SS: Tensor, detail_B3SS: Tensor | None) -> Tensor:
    """Add background detail to a face crop, float32 (B, 3, S, S) in [-1, 1], where the background shows.

    This is how the final video shows the crop. `alpha` (B, 1, S, S) in [0, 1] is what the generator drew, `detail`
    (B, 3, S, S) a difference on the same scale; None adds nothing.
    """
    if detail_B3SS is None:
        return face_B3SS
    return (face_B3SS + (1 - alpha_B1SS.clamp(0)) * detail_B3SS).clamp(-1, 1)


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
    # Bicubic interpolation overshoots.
    return sampled.clamp(-1, 1)


def _fade(pixels: int) -> Tensor:
    """(1, 1, S, S): 1 inside, falling linearly to nearly 0 at the edge."""
    from_edge = torch.minimum(torch.arange(pixels), torch.arange(pixels - 1, -1, -1)) + 0.5
    ramp = (from_edge / (_FADE * pixels)).clamp(max=1.0)
    return (ramp[:, None] * ramp[None, :])[None, None]
