"""A target's training pairs (t-1, t): its frames and poses, and batches of them as tensors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from dancedist.data.crops import View
from dancedist.data.frame_cache import MappedRows
from dancedist.data.split import Split
from dancedist.data.tensors import to_tensor
from dancedist.errors import Notice
from dancedist.pose.sequence import PoseSequence
from dancedist.recipe.schema import FigureRecipe
from dancedist.skeleton.crop import face_figure
from dancedist.skeleton.draw import draw_figure
from dancedist.video.letterbox import Letterbox


@dataclass(frozen=True, eq=False)
class TargetData:
    """A target's pictures and poses at the network's size, or at half of it.

    `pictures` uint8 RGB (N, h, w, 3): the cached frames at the size of `letterbox`.
    `rows` int64 (T,): row of each frame in `pictures` and `faces`, -1 if it is not cached; None: row t is frame t.
    `half`: pictures are returned at half their stored size.
    `poses`: in px of the pictures as they are returned.
    `usable` bool (T,): frames that are cached and show the dancer.
    `faces` uint8 RGB (N, S, S, 3): face crops of the original frames. `face_boxes` float32 (T, 4): their boxes in px
    of the pictures as they are returned, NaN where there is none. Both are None if no faces were prepared.
    `cuts`: frames at which another video begins.
    `key`: key of the frame cache.
    """

    pictures: NDArray[np.uint8] | MappedRows
    poses: PoseSequence
    usable: NDArray[np.bool_]
    letterbox: Letterbox
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
        """(width, height) px of the pictures as they are returned."""
        return self.poses.size

    def halved(self) -> TargetData:
        """The same pairs at half the size, from the same cache: training data of the global stage before a local one.

        A pixel is the mean of 2x2; skeletons are drawn at the smaller size, not resampled.
        """
        width, height = self.size
        assert not self.half and width % 2 == height % 2 == 0, (self.half, self.size)
        poses = replace(self.poses, xy=halved_points(self.poses.xy), size=(width // 2, height // 2))
        boxes = None if self.face_boxes is None else halved_points(self.face_boxes)
        return replace(self, poses=poses, half=True, face_boxes=boxes)

    def picture(self, t: int) -> NDArray[np.uint8]:
        """Picture of a usable frame, uint8 RGB (h, w, 3)."""
        return self._at_size(np.asarray(self.pictures[self._row(t)], np.uint8))

    def background_picture(self, background: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The background at the size of the pictures: uint8 RGB (H, W, 3) of the video's size -> (h, w, 3)."""
        return self._at_size(self.letterbox.to_picture(background))

    def _row(self, t: int) -> int:
        row = t if self.rows is None else int(self.rows[t])
        assert row >= 0, f"frame {t} is not in the cache"
        return row

    def _at_size(self, picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
        return halved_picture(picture) if self.half else picture

    def figure_of(self, t: int, view: View) -> NDArray[np.uint8]:
        """Skeleton of a frame through a view, uint8 RGB (h, w, 3): drawn rotated, not resampled."""
        poses = self.poses
        xy = view.points(poses.xy[t])
        return draw_figure(xy, poses.score[t], poses.topology, self.size, self.figure, view.window)

    def face(self, t: int) -> NDArray[np.uint8]:
        """Face crop of a frame that has a face, uint8 RGB (S, S, 3)."""
        assert self.faces is not None, "no faces were prepared"
        return np.asarray(self.faces[self._row(t)], np.uint8)

    def face_figure(self, t: int) -> NDArray[np.uint8]:
        """Skeleton in the face crop of a frame, drawn at the scale of the crop: uint8 RGB (S, S, 3)."""
        assert self.faces is not None and self.face_boxes is not None, "no faces were prepared"
        x0, y0, x1, y1 = self.face_boxes[t].tolist()
        box, size_px, poses = (x0, y0, x1, y1), self.faces.shape[1], self.poses
        return face_figure(poses.xy[t], poses.score[t], poses.topology, box, self.size, size_px, self.figure)

    @property
    def face_seen(self) -> NDArray[np.bool_]:
        """Usable frames in which the face is visible, bool (T,)."""
        assert self.face_boxes is not None, "no faces were prepared"
        return np.isfinite(self.face_boxes).all(axis=1) & self.usable

    def face_pairs(self, block: range) -> NDArray[np.int64]:
        """Frame indices t of the `pairs` whose frame t has a face, int64 (N,)."""
        t = self.pairs(block)
        return t[self.face_seen[t]]

    def pairs(self, block: range) -> NDArray[np.int64]:
        """Frame indices t of the block such that t-1 and t are usable and of one video, int64 (N,)."""
        return usable_pairs(self.usable, block, self.cuts)

    def train_frames(self) -> NDArray[np.int64]:
        """Indices of the training block's frames that show the dancer, cached or not: int64 (N,)."""
        block = self.split.train
        return np.flatnonzero(self.poses.present[block.start : block.stop]) + block.start

    def batch(self, t: NDArray[np.int64], views: Sequence[View]) -> tuple[Tensor, Tensor]:
        """Skeletons and pictures of pairs, each through its view: float32 (B, 2, 3, h, w) in [-1, 1].

        `t` int64 (B,) are the pairs' last frames. The views must be of one size.
        """
        frames = [(i, view) for last, view in zip(t.tolist(), views, strict=True) for i in (last - 1, last)]
        figures = to_tensor(np.stack([self.figure_of(i, view) for i, view in frames]))
        pictures = to_tensor(np.stack([view.crop(self.picture(i)) for i, view in frames]))
        shape = (len(t), 2, *figures.shape[1:])
        return figures.reshape(shape), pictures.reshape(shape)


def halved_picture(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """uint8 RGB (2h, 2w, 3) -> (h, w, 3): every pixel is the rounded mean of 2x2."""
    height, width = picture.shape[:2]
    return np.asarray(cv2.resize(picture, (width // 2, height // 2), interpolation=cv2.INTER_AREA), np.uint8)


def halved_points(xy: NDArray[np.float32]) -> NDArray[np.float32]:
    """Coordinates, float32 (..., 2) px, in the picture of half the size. Pixel centres are at whole numbers."""
    return np.asarray((xy + 0.5) / 2 - 0.5, np.float32)


def usable_pairs(usable: NDArray[np.bool_], block: range, cuts: Sequence[int] = ()) -> NDArray[np.int64]:
    """Frame indices t of the block such that t-1 and t are usable and of one video, int64 (N,).

    `usable` is bool (T,); another video begins at each of `cuts`.
    """
    t = np.arange(block.start + 1, block.stop)
    return t[usable[t] & usable[t - 1] & ~np.isin(t, cuts)]
