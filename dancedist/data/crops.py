"""How a training step sees a pair of frames: the whole picture, or a window around the dancer, upright or rotated."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from dancedist.pose.sequence import PoseSequence
from dancedist.recipe.schema import Recipe
from dancedist.skeleton.window import Window, dancer_boxes, full_window, place_window, window_size

# Up to this part of the dancer's height is added to each side of a training window, so that the dancer's position
# in it does not depend on the pose.
_SLACK = 0.1
# Part of the pairs that is rotated; the others keep the sharpness that resampling costs.
_ROTATED = 0.5
# Crops of the perceptual loss: the head in every step, because it is small and shows whether there is a person, and
# one other part of the body; a hand twice as often as a foot.
_HEAD = ("nose",)
_PARTS = tuple(f"{s}_{p}" for s in ("left", "right") for p in ("wrist", "wrist", "shoulder", "hip", "knee", "ankle"))


@dataclass(frozen=True, eq=False)
class View:
    """A window on a rotated picture; `rotation` (2, 3) maps px of the picture to px of the rotated one.

    Without `rotation` the picture stays upright.
    """

    window: Window
    rotation: NDArray[np.float64] | None = None

    def points(self, xy: NDArray[np.float32]) -> NDArray[np.float32]:
        """Rotate points, float32 (..., 2): px of the picture -> px of the rotated picture (not of the window)."""
        if self.rotation is None:
            return xy
        return np.asarray(xy @ self.rotation[:, :2].T + self.rotation[:, 2], np.float32)

    def crop(self, picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Rotate and crop: uint8 RGB (h, w, 3) -> (window.height, window.width, 3).

        Beyond the picture its edge is repeated.
        """
        w = self.window
        if self.rotation is None:
            return picture[w.rows, w.columns]
        to_window = self.rotation - np.array([[0, 0, w.left], [0, 0, w.top]])
        size, edge = (w.width, w.height), cv2.BORDER_REPLICATE
        return np.asarray(cv2.warpAffine(picture, to_window, size, flags=cv2.INTER_CUBIC, borderMode=edge), np.uint8)


def picture_pixels(poses: PoseSequence, recipe: Recipe) -> int:
    """Area, in px, of the picture in which training windows have the recipe's `pixels` on average.

    `poses` are in px of the frame. The picture is never larger than the frame. Without windows its area is the
    recipe's.
    """
    wanted, frame = recipe.pixels, poses.size[0] * poses.size[1]
    if not recipe.generator.window:
        return wanted
    boxes = dancer_boxes(poses.xy, poses.score, recipe.figure.min_score)
    width, height = (boxes[:, 2:] - boxes[:, :2]).T
    # A window has slack on both sides, half of `_SLACK` on average.
    areas = np.minimum(width + _SLACK * height, poses.size[0]) * np.minimum(height * (1 + _SLACK), poses.size[1])
    return min(frame, round(wanted * frame / float(np.nanmean(areas))))


def pair_views(
    poses: PoseSequence, t: NDArray[np.int64], recipe: Recipe, rng: np.random.Generator | None = None
) -> list[View]:
    """One view per pair (t-1, t), all of one size; `t` int64 (N,) frame indices, `poses` in px of the picture.

    With `rng` a window has random slack on every side, and some pairs are rotated by up to
    `training.rotation_degrees`. Without it views are tight and upright, as in rendering.
    """
    if not recipe.generator.window:
        return [View(full_window(poses.size)) for _ in t]
    rotations = [_rotation(poses, int(i), recipe, rng) for i in t]
    boxes = [_box(poses, int(i), rotation, recipe, rng) for i, rotation in zip(t, rotations, strict=True)]
    sizes = np.array([window_size(box, poses.size, recipe.multiple) for box in boxes]).max(axis=0).tolist()
    size = (sizes[0], sizes[1])
    return [View(place_window(box, size, poses.size), rotation) for box, rotation in zip(boxes, rotations, strict=True)]


def head_and_part(
    poses: PoseSequence, t: int, view: View, side: int, min_score: float, rng: np.random.Generator
) -> list[tuple[int, int]]:
    """Upper left corners (x, y) px of two squares of `side` px inside the view: on the head and on another part."""
    w, detected, index = view.window, poses.score[t] >= min_score, poses.topology.index
    max_corner = np.array([w.width, w.height]) - side
    assert (max_corner >= 0).all(), (w, side)
    assert detected.any(), t
    corners = []
    for names in (_HEAD, _PARTS):
        candidates = [index[n] for n in names if n in index and detected[index[n]]]
        candidates = candidates or np.flatnonzero(detected).tolist()
        point = view.points(poses.xy[t, candidates[rng.integers(len(candidates))]]) - np.array([w.left, w.top])
        corner = point - side / 2 + rng.uniform(-side / 4, side / 4, 2)
        x, y = np.clip(corner.round().astype(int), 0, max_corner).tolist()
        corners.append((x, y))
    return corners


def _rotation(
    poses: PoseSequence, t: int, recipe: Recipe, rng: np.random.Generator | None
) -> NDArray[np.float64] | None:
    """Random rotation (2, 3) about the middle of the dancer; None for a pair that stays upright."""
    if rng is None or not recipe.training.rotation_degrees or rng.random() >= _ROTATED:
        return None
    x0, y0, x1, y1 = dancer_boxes(poses.xy[[t]], poses.score[[t]], recipe.figure.min_score)[0].tolist()
    degrees = rng.uniform(-1, 1) * recipe.training.rotation_degrees
    return np.asarray(cv2.getRotationMatrix2D(((x0 + x1) / 2, (y0 + y1) / 2), degrees, 1.0), np.float64)


def _box(
    poses: PoseSequence, t: int, rotation: NDArray[np.float64] | None, recipe: Recipe, rng: np.random.Generator | None
) -> NDArray[np.float64]:
    """Box (4,) px around the rotated dancer in both frames of a pair, with slack."""
    xy = View(full_window(poses.size), rotation).points(poses.xy[t - 1 : t + 1])
    boxes = dancer_boxes(xy, poses.score[t - 1 : t + 1], recipe.figure.min_score)
    box = np.concatenate([boxes[:, :2].min(axis=0), boxes[:, 2:].max(axis=0)])
    if rng is None:
        return box
    return np.asarray(box + rng.uniform(0, _SLACK, 4) * [-1, -1, 1, 1] * (box[3] - box[1]), np.float64)
