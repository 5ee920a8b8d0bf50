"""Windows: the crop of a picture, around the dancer, that a small network processes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dancedist.pose.sequence import PoseSequence

# Margin around the keypoints, as a fraction of their box's height, for hands, hair, shoes and clothes.
MARGIN = 0.1


@dataclass(frozen=True)
class Window:
    """Upper left corner and size, px; a window is within its picture."""

    left: int
    top: int
    width: int
    height: int

    @property
    def rows(self) -> slice:
        """The picture's rows inside the window."""
        return slice(self.top, self.top + self.height)

    @property
    def columns(self) -> slice:
        """The picture's columns inside the window."""
        return slice(self.left, self.left + self.width)


def full_window(picture_size: tuple[int, int]) -> Window:
    """The window that covers the whole picture of size (width, height) px."""
    return Window(0, 0, *picture_size)


def dancer_boxes(xy: NDArray[np.float32], score: NDArray[np.float32], min_score: float) -> NDArray[np.float64]:
    """Boxes (x0, y0, x1, y1) px of the present keypoints plus `MARGIN`, float64 (T, 4); NaN where all are absent.

    xy float32 (T, K, 2) px, score float32 (T, K) in [0, 1].
    """
    present = (score >= min_score) & np.isfinite(xy).all(axis=2)
    low = np.where(present[..., None], xy, np.inf).min(axis=1)
    high = np.where(present[..., None], xy, -np.inf).max(axis=1)
    empty = ~present.any(axis=1)
    low[empty], high[empty] = np.nan, np.nan
    margin = MARGIN * (high - low)[:, 1:]
    return np.concatenate([low - margin, high + margin], axis=1).astype(np.float64)


def window_size(box: NDArray[np.float64], picture_size: tuple[int, int], multiple: int) -> tuple[int, int]:
    """Smallest size (width, height) px, divisible by `multiple`, for a box float64 (4,) px; at most the picture's."""
    sides = (np.ceil((box[2:] - box[:2]) / multiple) * multiple).astype(int)
    return min(int(sides[0]), picture_size[0]), min(int(sides[1]), picture_size[1])


def place_window(box: NDArray[np.float64], size: tuple[int, int], picture_size: tuple[int, int]) -> Window:
    """Window of `size` centred on a box, float64 (4,) px, as far as the picture's edges allow."""
    corner = ((box[:2] + box[2:]) / 2 - np.array(size) / 2).round().astype(int)
    left, top = corner.clip(0, np.array(picture_size) - size).tolist()
    return Window(left, top, *size)


def film_windows(poses: PoseSequence, picture_size: tuple[int, int], multiple: int, min_score: float) -> list[Window]:
    """One window per frame, all of one size, which contains the dancer in every frame; `poses` in px of the picture.

    A frame without a dancer has the window of the last frame with one (before the first such frame: its window).
    """
    boxes = dancer_boxes(poses.xy, poses.score, min_score)
    present = np.isfinite(boxes).all(axis=1)
    assert present.any()
    sizes = np.array([window_size(box, picture_size, multiple) for box in boxes[present]])
    width, height = sizes.max(axis=0).tolist()
    last = np.maximum.accumulate(np.where(present, np.arange(len(boxes)), int(np.argmax(present))))
    return [place_window(boxes[t], (width, height), picture_size) for t in last.tolist()]
