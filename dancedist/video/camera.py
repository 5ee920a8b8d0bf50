"""Measure how far the camera moves, from the background in a few frames."""

from __future__ import annotations

from collections.abc import Iterable

import cv2
import numpy as np
from numpy.typing import NDArray

from dancedist.arrays import Box

Grey = NDArray[np.uint8]

_SIDE_PX = 480
_MIN_CORNERS = 12
# Minimum eigenvalue of a corner's gradients: on a plain background, weaker corners are only codec noise.
_MIN_EIGENVALUE = 0.002
_MIN_TRACKED = 0.25


def camera_move(frames: Iterable[tuple[NDArray[np.uint8], Box | None]]) -> float | None:
    """Movement of the background relative to the first frame, as a fraction of the frame's longer side.

    `frames` are uint8 RGB (H, W, 3), each with the dancer's box (x0, y0, x1, y1) px, which is ignored. Corners
    outside the box are tracked from the first frame (Lucas-Kanade, verified backwards). The result is the 90th
    percentile over the frames of the corners' median distance. None if the background has too few corners, inf if
    the corners are lost in most frames.
    """
    distances: list[float] = []
    first: tuple[Grey, Grey] | None = None
    side_px = 1
    for frame, box in frames:
        background = _background(frame, box)
        side_px = max(background[0].shape)
        distance_px = None if first is None else _distance_px(*first, *background)
        first = first or background
        if distance_px is not None:
            distances.append(distance_px)
    tracked = [d for d in distances if np.isfinite(d)]
    if not distances:
        return None
    return float(np.percentile(tracked, 90)) / side_px if len(tracked) >= len(distances) / 2 else float("inf")


def _background(frame: NDArray[np.uint8], box: Box | None) -> tuple[Grey, Grey]:
    """Downscaled grey frame, and a mask that is 0 within the box."""
    scale = min(1.0, _SIDE_PX / max(frame.shape))
    grey = cv2.resize(cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY), None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    mask = np.full(grey.shape, 255, np.uint8)
    if box is not None:
        x0, y0, x1, y1 = (max(0, round(v * scale)) for v in box)
        mask[y0:y1, x0:x1] = 0
    return np.asarray(grey, np.uint8), mask


def _distance_px(before: Grey, mask_before: Grey, after: Grey, mask_after: Grey) -> float | None:
    """Median distance of the background's corners; None if there are too few corners, inf if they are lost."""
    visible = mask_before & mask_after
    strong = np.where(cv2.cornerMinEigenVal(before, 5) > _MIN_EIGENVALUE, visible, 0).astype(np.uint8)
    corners = cv2.goodFeaturesToTrack(before, 300, 0.001, 6, mask=strong)
    if corners is None or len(corners) < _MIN_CORNERS:
        return None
    start = np.asarray(corners, np.float32)
    end, tracked = _track(before, after, start, start + _global_shift(before, after, visible))
    back, tracked_back = _track(after, before, end, start)
    good = tracked & tracked_back & (np.linalg.norm(back - start, axis=2)[:, 0] < 1.0)
    if good.sum() < max(_MIN_CORNERS / 2, _MIN_TRACKED * len(start)):
        return float("inf")
    return float(np.median(np.linalg.norm(end - start, axis=2)[good]))


def _track(
    before: Grey, after: Grey, points: NDArray[np.float32], guess: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Track points (N, 1, 2) px; returns their new positions and (N,) whether each was tracked.

    Uses two pyramid levels only: on higher levels, the search area covers more of the dancer than of the background.
    """
    end, tracked, _ = cv2.calcOpticalFlowPyrLK(
        before, after, points, guess.copy(), winSize=(21, 21), maxLevel=1, flags=cv2.OPTFLOW_USE_INITIAL_FLOW
    )
    return np.asarray(end, np.float32), np.asarray(tracked, np.bool_).ravel()


def _global_shift(before: Grey, after: Grey, mask: Grey) -> NDArray[np.float32]:
    """(2,) px: the background's shift, by phase correlation."""
    hann = cv2.createHanningWindow((before.shape[1], before.shape[0]), cv2.CV_64F)
    levelled = [np.where(mask > 0, p - p[mask > 0].mean(), 0.0) for p in (before, after)]
    shift, _ = cv2.phaseCorrelate(levelled[0], levelled[1], hann)
    return np.array(shift, np.float32)
