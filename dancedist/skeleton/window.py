"""The part of a picture that a small network looks at: a window round the dancer."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dancedist.pose.sequence import PoseSequence

# What a window holds beyond the keypoints, as a part of their box's height: hands, hair, shoes, clothes.
MARGIN = 0.1


@dataclass(frozen=True)
class Window:
    """Left upper corner and size in px of a picture; it lies within the picture."""

    left: int
    top: int
    width: int
    height: int

    @property
    def rows(self) -> slice:
        """The picture's rows in it."""
        return slice(self.top, self.top + self.height)

    @property
    def columns(self) -> slice:
        """The picture's columns in it."""
        return slice(self.left, self.left + self.width)


def whole(picture_size: tuple[int, int]) -> Window:
    """The window that hides nothing; (width, height) px."""
    return Window(0, 0, *picture_size)


def dancer_boxes(xy: NDArray[np.float32], score: NDArray[np.float32], min_score: float) -> NDArray[np.float64]:
    """Boxes (x0, y0, x1, y1) of the seen keypoints and `MARGIN`: xy (T, K, 2) px -> (T, 4), NaN where none is seen."""
    seen = (score >= min_score) & np.isfinite(xy).all(axis=2)
    low = np.where(seen[..., None], xy, np.inf).min(axis=1)
    high = np.where(seen[..., None], xy, -np.inf).max(axis=1)
    empty = ~seen.any(axis=1)
    low[empty], high[empty] = np.nan, np.nan
    margin = MARGIN * (high - low)[:, 1:]
    return np.concatenate([low - margin, high + margin], axis=1).astype(np.float64)


def size_for(box: NDArray[np.float64], picture_size: tuple[int, int], multiple: int) -> tuple[int, int]:
    """Smallest (width, height) px, divisible by `multiple`, that holds the box, or all of the picture."""
    sides = (np.ceil((box[2:] - box[:2]) / multiple) * multiple).astype(int)
    return min(int(sides[0]), picture_size[0]), min(int(sides[1]), picture_size[1])


def place(box: NDArray[np.float64], size: tuple[int, int], picture_size: tuple[int, int]) -> Window:
    """Window of this size, centred on the box as far as the picture's edges allow."""
    corner = ((box[:2] + box[2:]) / 2 - np.array(size) / 2).round().astype(int)
    left, top = corner.clip(0, np.array(picture_size) - size).tolist()
    return Window(left, top, *size)


def film_windows(poses: PoseSequence, picture_size: tuple[int, int], multiple: int, min_score: float) -> list[Window]:
    """One window per frame, all of one size, which holds the dancer in every frame; `poses` in px of the picture.

    A frame without a dancer has the window of the last before it (before the first: of the first).
    """
    boxes = dancer_boxes(poses.xy, poses.score, min_score)
    shown = np.isfinite(boxes).all(axis=1)
    assert shown.any()
    sizes = np.array([size_for(box, picture_size, multiple) for box in boxes[shown]])
    width, height = sizes.max(axis=0).tolist()
    last = np.maximum.accumulate(np.where(shown, np.arange(len(boxes)), int(np.argmax(shown))))
    return [place(boxes[t], (width, height), picture_size) for t in last.tolist()]
