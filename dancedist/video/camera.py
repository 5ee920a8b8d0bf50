"""Does the camera move? Told from the background in a few frames."""

from __future__ import annotations

from collections.abc import Iterable

import cv2
import numpy as np
from numpy.typing import NDArray

Box = tuple[float, float, float, float]
Grey = NDArray[np.uint8]

_SIDE_PX = 480
_MIN_CORNERS = 12
# Least eigenvalue of a corner's gradients: on a plain backdrop the best corners are but the codec's noise.
_CORNER = 0.002
_FOUND_PART = 0.25


def camera_move(frames: Iterable[tuple[NDArray[np.uint8], Box | None]]) -> float | None:
    """How far the background goes from where it was in the first frame, as a part of the frame's longer side.

    `frames` are uint8 RGB (H, W, 3), each with the box (x0, y0, x1, y1) px to look past: the dancer's. Corners
    outside it are looked for in every frame (Lucas-Kanade, checked backwards); of a frame the median of their
    ways is taken, of all frames the 90th percentile. None where the background has too few corners to tell,
    inf where it has, but they are not found again in most frames.
    """
    ways: list[float] = []
    first: tuple[Grey, Grey] | None = None
    side_px = 1
    for frame, box in frames:
        here = _background(frame, box)
        side_px = max(here[0].shape)
        way_px = None if first is None else _way_px(*first, *here)
        first = first or here
        if way_px is not None:
            ways.append(way_px)
    found = [w for w in ways if np.isfinite(w)]
    if not ways:
        return None
    return float(np.percentile(found, 90)) / side_px if len(found) >= len(ways) / 2 else float("inf")


def _background(frame: NDArray[np.uint8], box: Box | None) -> tuple[Grey, Grey]:
    """Small grey picture, and a mask that is 0 within the box."""
    scale = min(1.0, _SIDE_PX / max(frame.shape))
    grey = cv2.resize(cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY), None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    mask = np.full(grey.shape, 255, np.uint8)
    if box is not None:
        x0, y0, x1, y1 = (max(0, round(v * scale)) for v in box)
        mask[y0:y1, x0:x1] = 0
    return np.asarray(grey, np.uint8), mask


def _way_px(before: Grey, mask_before: Grey, after: Grey, mask_after: Grey) -> float | None:
    """Median way of the background's corners; None: too plain to tell; inf: not found again."""
    seen = mask_before & mask_after
    edged = np.where(cv2.cornerMinEigenVal(before, 5) > _CORNER, seen, 0).astype(np.uint8)
    corners = cv2.goodFeaturesToTrack(before, 300, 0.001, 6, mask=edged)
    if corners is None or len(corners) < _MIN_CORNERS:
        return None
    start = np.asarray(corners, np.float32)
    there, found = _follow(before, after, start, start + _whole_shift(before, after, seen))
    back, found_back = _follow(after, before, there, start)
    good = found & found_back & (np.linalg.norm(back - start, axis=2)[:, 0] < 1.0)
    if good.sum() < max(_MIN_CORNERS / 2, _FOUND_PART * len(start)):
        return float("inf")
    return float(np.median(np.linalg.norm(there - start, axis=2)[good]))


def _follow(
    before: Grey, after: Grey, points: NDArray[np.float32], guess: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """(N, 1, 2) points -> where they are, and (N,) whether they were found.

    Two levels of the pyramid only: in more of them the windows hold more dancer than background.
    """
    there, found, _ = cv2.calcOpticalFlowPyrLK(
        before, after, points, guess.copy(), winSize=(21, 21), maxLevel=1, flags=cv2.OPTFLOW_USE_INITIAL_FLOW
    )
    return np.asarray(there, np.float32), np.asarray(found, np.bool_).ravel()


def _whole_shift(before: Grey, after: Grey, mask: Grey) -> NDArray[np.float32]:
    """(2,) px by which the background moves, from its phases."""
    window = cv2.createHanningWindow((before.shape[1], before.shape[0]), cv2.CV_64F)
    flat = [np.where(mask > 0, p - p[mask > 0].mean(), 0.0) for p in (before, after)]
    shift, _ = cv2.phaseCorrelate(flat[0], flat[1], window)
    return np.array(shift, np.float32)
