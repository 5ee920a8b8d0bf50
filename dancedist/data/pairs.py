"""A target's training pairs (t-1, t): its frames and poses, and batches of them as tensors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dancedist.data.crops import View
from dancedist.data.frame_cache import MappedRows
from dancedist.data.split import Split
from dancedist.errors import Notice
from dancedist.pose.sequence import PoseSequence
from dancedist.recipe import FigureRecipe
from dancedist.skeleton.crop import cut, face_figure
from dancedist.skeleton.draw import draw_figure
from dancedist.skeleton.face import Box
from dancedist.video.letterbox import Fit


@dataclass(frozen=True, eq=False)
class TargetData:
    """A target's pictures and poses at the network's size, or at half of it.

    `pictures` uint8 (N, h, w, 3), by row, of the size that `fit` tells; `half` says that all is seen at half
    of that. `rows` (T,) are the frames' places in it, -1 where one was not kept; None: every frame is at its own.
    `poses` in pixels of the picture as it is seen; `usable` (T,) says which frames are kept and have a dancer.
    `faces` uint8 (N, S, S, 3), by row, are cut from the frames as they were filmed; `face_boxes` float32 (T, 4)
    are where they lie in the picture as it is seen, px, NaN where there is none. None where no faces were asked for.
    `cuts` are frames at which another video begins; `key` says what decided on the frames that are kept.
    """

    pictures: NDArray[np.uint8] | MappedRows
    poses: PoseSequence
    usable: NDArray[np.bool_]
    fit: Fit
    split: Split
    figure: FigureRecipe
    half: bool = False
    faces: NDArray[np.uint8] | MappedRows | None = None
    face_boxes: NDArray[np.float32] | None = None
    rows: NDArray[np.int64] | None = None
    cuts: tuple[int, ...] = ()
    notices: tuple[Notice, ...] = ()
    key: str = ""

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) px of the pictures as they are seen."""
        return self.poses.size

    def halved(self) -> TargetData:
        """The same pairs at half the size, from the same cache: what the global generator learns before a local one.

        A pixel is the mean of 2x2; figures are drawn at the smaller size, not resampled.
        """
        width, height = self.size
        assert not self.half and width % 2 == height % 2 == 0, (self.half, self.size)
        poses = replace(self.poses, xy=halved_points(self.poses.xy), size=(width // 2, height // 2))
        boxes = None if self.face_boxes is None else halved_points(self.face_boxes)
        return replace(self, poses=poses, half=True, face_boxes=boxes)

    def picture(self, t: int) -> NDArray[np.uint8]:
        """uint8 (h, w, 3) of a usable frame."""
        return self._seen(np.asarray(self.pictures[self._row(t)], np.uint8))

    def stage_picture(self, stage: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The empty stage in the film's size, uint8 (H, W, 3), as the pictures are seen: (h, w, 3)."""
        return self._seen(self.fit.to_picture(stage))

    def _row(self, t: int) -> int:
        row = t if self.rows is None else int(self.rows[t])
        assert row >= 0, f"frame {t} was not kept"
        return row

    def _seen(self, picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
        return halved_picture(picture) if self.half else picture

    def figure_of(self, t: int, view: View) -> NDArray[np.uint8]:
        """(h, w, 3) stick figure of a frame, drawn as the view has it: turned, not resampled."""
        poses = self.poses
        xy = view.points(poses.xy[t])
        return draw_figure(xy, poses.score[t], poses.topology, self.size, self.figure, view.window)

    def face(self, t: int) -> NDArray[np.uint8]:
        """uint8 (S, S, 3) the face of a frame that has one."""
        assert self.faces is not None, "no faces were asked for"
        return np.asarray(self.faces[self._row(t)], np.uint8)

    def face_figure(self, t: int) -> NDArray[np.uint8]:
        """uint8 (S, S, 3) what the stick figure is at the face, drawn at the face's own scale."""
        assert self.faces is not None and self.face_boxes is not None, "no faces were asked for"
        x0, y0, x1, y1 = self.face_boxes[t].tolist()
        box, size_px, poses = (x0, y0, x1, y1), self.faces.shape[1], self.poses
        return face_figure(poses.xy[t], poses.score[t], poses.topology, box, self.size, size_px, self.figure)

    @property
    def face_seen(self) -> NDArray[np.bool_]:
        """(T,) whether there is a face."""
        assert self.face_boxes is not None, "no faces were asked for"
        return np.isfinite(self.face_boxes).all(axis=1) & self.usable

    def face_pairs(self, block: range) -> NDArray[np.int64]:
        """(N,) every t of `pairs` whose frame t has a face."""
        t = self.pairs(block)
        return t[self.face_seen[t]]

    def pairs(self, block: range) -> NDArray[np.int64]:
        """(N,) every t of the block whose frames t-1 and t are both usable, and of one video."""
        return paired(self.usable, block, self.cuts)

    def train_frames(self) -> NDArray[np.int64]:
        """(N,) the training block's frames that have a dancer, in the film if not all in the cache."""
        block = self.split.train
        return np.flatnonzero(self.poses.present[block.start : block.stop]) + block.start

    def batch(self, t: NDArray[np.int64], views: Sequence[View]) -> tuple[Tensor, Tensor]:
        """Pairs ending at frames `t`, each through its view -> figures and pictures, float32 (B, 2, 3, h, w), [-1, 1].

        The views are of one size.
        """
        seen = [(i, view) for last, view in zip(t.tolist(), views, strict=True) for i in (last - 1, last)]
        figures = to_tensor(np.stack([self.figure_of(i, view) for i, view in seen]))
        pictures = to_tensor(np.stack([view.look(self.picture(i)) for i, view in seen]))
        shape = (len(t), 2, *figures.shape[1:])
        return figures.reshape(shape), pictures.reshape(shape)


def halved_picture(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """uint8 (2h, 2w, 3) -> (h, w, 3): every pixel the mean of 2x2, rounded."""
    height, width = picture.shape[:2]
    return np.asarray(cv2.resize(picture, (width // 2, height // 2), interpolation=cv2.INTER_AREA), np.uint8)


def halved_points(xy: NDArray[np.float32]) -> NDArray[np.float32]:
    """Px of a picture -> px of the picture of half the size. Pixel centres are at whole numbers."""
    return np.asarray((xy + 0.5) / 2 - 0.5, np.float32)


def to_tensor(pictures: NDArray[np.uint8]) -> Tensor:
    """uint8 (N, H, W, 3) -> float32 (N, 3, H, W) in [-1, 1]."""
    return (
        torch.from_numpy(np.ascontiguousarray(pictures)).permute(0, 3, 1, 2).float().div_(127.5).sub_(1.0).contiguous()
    )


def detail_crops(detail: NDArray[np.float32], boxes: Sequence[Box], pixels: int) -> Tensor:
    """Squares of a stage's detail (H, W, 3), as differences on [-1, 1]: float32 (N, 3, S, S); boxes in its px."""
    return torch.from_numpy(np.stack([cut(detail, box, pixels) for box in boxes])).permute(0, 3, 1, 2) / 127.5


def to_pictures(x_N3HW: Tensor) -> NDArray[np.uint8]:
    """float (N, 3, H, W) in [-1, 1] -> uint8 (N, H, W, 3)."""
    scaled = x_N3HW.detach().float().clamp(-1, 1).add(1).mul(127.5).round().to(torch.uint8)
    return np.asarray(scaled.permute(0, 2, 3, 1).contiguous().cpu().numpy(), np.uint8)


def paired(usable: NDArray[np.bool_], block: range, cuts: Sequence[int] = ()) -> NDArray[np.int64]:
    """(N,) every t of the block whose frames t-1 and t are both usable, and of one video: at a cut another begins."""
    t = np.arange(block.start + 1, block.stop)
    return t[usable[t] & usable[t - 1] & ~np.isin(t, cuts)]
