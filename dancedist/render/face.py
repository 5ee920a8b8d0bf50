"""The FaceGAN in rendering: what it adds to the face of a picture, at the size that it learnt it at."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dancedist.bundle.bundle import Bundle
from dancedist.data.pairs import detail_crops, to_tensor
from dancedist.models.face import cut, finished, paste
from dancedist.pose.sequence import PoseSequence
from dancedist.skeleton.crop import face_figure, uncut
from dancedist.skeleton.face import Box, face_box
from dancedist.skeleton.window import Window


@dataclass(frozen=True, eq=False)
class Face:
    """A residual (1, 3, S, S) on [-1, 1] and its place, in px of the picture and of the target's frame."""

    residual: Tensor
    in_picture: Box
    in_frame: Box

    def onto_picture(self, picture_13HW: Tensor) -> Tensor:
        """The picture with the face refined, in the picture's size."""
        box = torch.tensor([self.in_picture], device=picture_13HW.device)
        height, width = picture_13HW.shape[-2:]
        return (picture_13HW + paste(self.residual, box, (width, height))).clamp(-1, 1)

    def onto_frame(self, frame: NDArray[np.float32]) -> None:
        """The same for a frame, float32 (H, W, 3) in [0, 255], in place."""
        crop = self.residual[0].permute(1, 2, 0).contiguous().cpu().numpy().astype(np.float32) * 127.5
        patch, rows, columns = uncut(crop, self.in_frame, (frame.shape[1], frame.shape[0]))
        frame[rows, columns] += patch


def refine(
    bundle: Bundle, poses: PoseSequence, i: int, picture_13HW: Tensor, painted_11hw: Tensor, window: Window
) -> Face | None:
    """What to add to a picture in pose `i`; `painted` is seen through the window.

    None without a FaceGAN, and where no face is seen: the picture stays as it is.
    """
    in_frame = face_box(poses.xy[i], poses.score[i], poses.topology)
    if bundle.face is None or in_frame is None:
        return None
    fit, recipe, device = bundle.fit, bundle.dancer.recipe, picture_13HW.device
    (x0, y0), (x1, y1) = fit.points_to_picture(np.array(in_frame, np.float32).reshape(2, 2)).tolist()
    box, side = (x0, y0, x1, y1), recipe.face.pixels
    xy, score = fit.points_to_picture(poses.xy[i]), poses.score[i]
    figure = face_figure(xy, score, poses.topology, box, fit.picture_size, side, recipe.figure)
    where = torch.zeros_like(picture_13HW[:, :1])
    where[..., window.rows, window.columns] = painted_11hw
    boxes = torch.tensor([box], device=device)
    detail = None if bundle.detail is None else detail_crops(bundle.detail, [in_frame], side).to(device)
    crop = finished(cut(picture_13HW, boxes, side), cut(where, boxes, side), detail)
    return Face(bundle.face(to_tensor(figure[None]).to(device), crop), box, in_frame)
