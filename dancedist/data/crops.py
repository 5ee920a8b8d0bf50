"""How a training step sees a pair of frames: whole, or through a window round the dancer, upright or turned."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from dancedist.pose.sequence import PoseSequence
from dancedist.recipe import Recipe
from dancedist.skeleton.window import Window, dancer_boxes, place, size_for, whole

# Up to this part of the dancer's height is added to each side of a training window, so that the dancer's place
# in it tells nothing of the pose.
_SLACK = 0.1
# Pairs that are turned; the others keep the sharpness that resampling costs.
_TURNED = 0.5
# What the perceptual loss looks at: the head in every step, for it is small and tells whether there is a person, and
# one other part; a hand twice as often as a foot.
_HEAD = ("nose",)
_PARTS = tuple(f"{s}_{p}" for s in ("left", "right") for p in ("wrist", "wrist", "shoulder", "hip", "knee", "ankle"))


@dataclass(frozen=True, eq=False)
class View:
    """A window on a picture that was turned first; `turn` (2, 3) maps px of the picture to px of the turned one."""

    window: Window
    turn: NDArray[np.float64] | None = None

    def points(self, xy: NDArray[np.float32]) -> NDArray[np.float32]:
        """(..., 2) px of the picture -> px of the turned picture (not of the window)."""
        return xy if self.turn is None else np.asarray(xy @ self.turn[:, :2].T + self.turn[:, 2], np.float32)

    def look(self, picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """uint8 picture (h, w, 3) -> (window.height, window.width, 3); beyond the picture its edge is repeated."""
        w = self.window
        if self.turn is None:
            return picture[w.rows, w.columns]
        moved = self.turn - np.array([[0, 0, w.left], [0, 0, w.top]])
        size, edge = (w.width, w.height), cv2.BORDER_REPLICATE
        return np.asarray(cv2.warpAffine(picture, moved, size, flags=cv2.INTER_CUBIC, borderMode=edge), np.uint8)


def picture_pixels(poses: PoseSequence, recipe: Recipe) -> int:
    """Area of the picture in which training windows have the recipe's `pixels` on average; `poses` of the frame.

    Never larger than the frame. Without windows the picture is all that the network sees.
    """
    wanted, frame = recipe.pixels, poses.size[0] * poses.size[1]
    if not recipe.generator.window:
        return wanted
    boxes = dancer_boxes(poses.xy, poses.score, recipe.figure.min_score)
    width, height = (boxes[:, 2:] - boxes[:, :2]).T
    # A window has slack on both sides, half of `_SLACK` on average.
    seen = np.minimum(width + _SLACK * height, poses.size[0]) * np.minimum(height * (1 + _SLACK), poses.size[1])
    return min(frame, round(wanted * frame / float(np.nanmean(seen))))


def pair_views(
    poses: PoseSequence, t: NDArray[np.int64], recipe: Recipe, rng: np.random.Generator | None = None
) -> list[View]:
    """One view per pair (t-1, t), all of one size; `poses` in px of the picture.

    With `rng` a window has some slack at random on every side, and some pairs are turned by up to
    `training.turn_degrees`; without, they are as tight and upright as in a film.
    """
    if not recipe.generator.window:
        return [View(whole(poses.size)) for _ in t]
    turns = [_turn(poses, int(i), recipe, rng) for i in t]
    boxes = [_box(poses, int(i), turn, recipe, rng) for i, turn in zip(t, turns, strict=True)]
    sizes = np.array([size_for(box, poses.size, recipe.multiple) for box in boxes]).max(axis=0).tolist()
    size = (sizes[0], sizes[1])
    return [View(place(box, size, poses.size), turn) for box, turn in zip(boxes, turns, strict=True)]


def head_and_part(
    poses: PoseSequence, t: int, view: View, side: int, min_score: float, rng: np.random.Generator
) -> list[tuple[int, int]]:
    """Left upper corners (x, y) px of two squares of `side` px inside the view: on the head and on another part."""
    w, shown, index = view.window, poses.score[t] >= min_score, poses.topology.index
    room = np.array([w.width, w.height]) - side
    assert (room >= 0).all(), (w, side)
    assert shown.any(), t
    corners = []
    for names in (_HEAD, _PARTS):
        seen = [index[n] for n in names if n in index and shown[index[n]]] or np.flatnonzero(shown).tolist()
        point = view.points(poses.xy[t, seen[rng.integers(len(seen))]]) - np.array([w.left, w.top])
        corner = point - side / 2 + rng.uniform(-side / 4, side / 4, 2)
        x, y = np.clip(corner.round().astype(int), 0, room).tolist()
        corners.append((x, y))
    return corners


def _turn(poses: PoseSequence, t: int, recipe: Recipe, rng: np.random.Generator | None) -> NDArray[np.float64] | None:
    if rng is None or not recipe.training.turn_degrees or rng.random() >= _TURNED:
        return None
    x0, y0, x1, y1 = dancer_boxes(poses.xy[[t]], poses.score[[t]], recipe.figure.min_score)[0].tolist()
    degrees = rng.uniform(-1, 1) * recipe.training.turn_degrees
    return np.asarray(cv2.getRotationMatrix2D(((x0 + x1) / 2, (y0 + y1) / 2), degrees, 1.0), np.float64)


def _box(
    poses: PoseSequence, t: int, turn: NDArray[np.float64] | None, recipe: Recipe, rng: np.random.Generator | None
) -> NDArray[np.float64]:
    """The dancer's box in both frames of a pair, once turned, with slack: (4,) px."""
    xy = View(whole(poses.size), turn).points(poses.xy[t - 1 : t + 1])
    boxes = dancer_boxes(xy, poses.score[t - 1 : t + 1], recipe.figure.min_score)
    box = np.concatenate([boxes[:, :2].min(axis=0), boxes[:, 2:].max(axis=0)])
    if rng is None:
        return box
    return np.asarray(box + rng.uniform(0, _SLACK, 4) * [-1, -1, 1, 1] * (box[3] - box[1]), np.float64)
