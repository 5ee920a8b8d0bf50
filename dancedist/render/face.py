"""The FaceGAN's residual for a picture, computed at the size that the FaceGAN was trained on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dancedist.arrays import Box
from dancedist.bundle.bundle import Bundle
from dancedist.data.tensors import detail_crops, to_tensor
from dancedist.models.face import add_background_detail, crop_square, paste_square
from dancedist.pose.sequence import PoseSequence
from dancedist.skeleton.crop import face_figure, paste_box
from dancedist.skeleton.face import face_box
from dancedist.skeleton.window import Window


@dataclass(frozen=True, eq=False)
class FaceResidual:
    """A residual, float32 (1, 3, S, S) on [-1, 1], and its box in px of the picture and of the target's frame."""

    residual: Tensor
    in_picture: Box
    in_frame: Box

    def add_to_picture(self, picture_13HW: Tensor) -> Tensor:
        """Return the picture, float32 (1, 3, h, w) in [-1, 1], with the residual added at the picture's size."""
        box = torch.tensor([self.in_picture], device=picture_13HW.device)
        height, width = picture_13HW.shape[-2:]
        return (picture_13HW + paste_square(self.residual, box, (width, height))).clamp(-1, 1)

    def add_to_frame(self, frame: NDArray[np.float32]) -> None:
        """Add the residual to a frame, float32 RGB (H, W, 3) in [0, 255], in place."""
        crop = self.residual[0].permute(1, 2, 0).contiguous().cpu().numpy().astype(np.float32) * 127.5
        patch, rows, columns = paste_box(crop, self.in_frame, (frame.shape[1], frame.shape[0]))
        frame[rows, columns] += patch


def refine(
    bundle: Bundle, poses: PoseSequence, i: int, picture_13HW: Tensor, alpha_11hw: Tensor, window: Window
) -> FaceResidual | None:
    """Compute the face residual for a picture that shows pose `i`.

    `picture_13HW`: float32 (1, 3, H, W) in [-1, 1]. `alpha_11hw`: float32 (1, 1, h, w) in [0, 1], the dancer's alpha
    inside `window` of the picture. `poses` in px of the target's frame. None if the dancer has no FaceGAN or the pose
    has no visible face; the picture then stays as it is.
    """
    in_frame = face_box(poses.xy[i], poses.score[i], poses.topology)
    if bundle.face is None or in_frame is None:
        return None
    letterbox, recipe, device = bundle.letterbox, bundle.dancer.recipe, picture_13HW.device
    (x0, y0), (x1, y1) = letterbox.points_to_picture(np.array(in_frame, np.float32).reshape(2, 2)).tolist()
    box, side = (x0, y0, x1, y1), recipe.face.pixels
    xy, score = letterbox.points_to_picture(poses.xy[i]), poses.score[i]
    figure = face_figure(xy, score, poses.topology, box, letterbox.picture_size, side, recipe.figure)
    alpha_11HW = torch.zeros_like(picture_13HW[:, :1])
    alpha_11HW[..., window.rows, window.columns] = alpha_11hw
    boxes = torch.tensor([box], device=device)
    detail = None if bundle.detail is None else detail_crops(bundle.detail, [in_frame], side).to(device)
    crop = add_background_detail(crop_square(picture_13HW, boxes, side), crop_square(alpha_11HW, boxes, side), detail)
    return FaceResidual(bundle.face(to_tensor(figure[None]).to(device), crop), box, in_frame)
