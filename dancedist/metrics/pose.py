"""How far the poses found on generated frames are from those that were asked for (the paper, section on metrics)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]


def seen(xy: Floats, score: Floats, min_score: float) -> NDArray[np.bool_]:
    """(..., K, 2) px and (..., K) -> (..., K): whether a keypoint was detected."""
    return np.asarray((score >= min_score) & (score > 0) & np.isfinite(xy).all(axis=-1), np.bool_)


def pose_distance_px(
    true_xy: Floats, true_score: Floats, found_xy: Floats, found_score: Floats, min_score: float = 0.3
) -> NDArray[np.float64]:
    """Mean Euclidean distance per frame over the keypoints seen in both poses, px.

    xy (T, K, 2) px, score (T, K), twice -> (T,); NaN where no keypoint is seen in both. A pose that is found in
    part only is judged by that part: read it beside `missed_detections`.
    """
    assert true_xy.shape == found_xy.shape and true_score.shape == found_score.shape == true_xy.shape[:2]
    both = seen(true_xy, true_score, min_score) & seen(found_xy, found_score, min_score)
    gaps = np.linalg.norm(true_xy.astype(np.float64) - found_xy, axis=-1)
    count = both.sum(axis=-1)
    sums = np.where(both, gaps, 0).sum(axis=-1)
    return np.where(count > 0, sums / np.maximum(count, 1), np.nan)


def missed_detections(
    true_xy: Floats, true_score: Floats, found_xy: Floats, found_score: Floats, min_score: float = 0.3
) -> NDArray[np.float64]:
    """Keypoints per frame that are seen in the true pose and not in the found one: (T,).

    NaN where the true pose has no keypoint at all. Of K keypoints: the paper's have 25 and more, so compare
    numbers of one topology only.
    """
    assert true_xy.shape == found_xy.shape and true_score.shape == found_score.shape == true_xy.shape[:2]
    true = seen(true_xy, true_score, min_score)
    missed = (true & ~seen(found_xy, found_score, min_score)).sum(axis=-1)
    return np.where(true.any(axis=-1), missed, np.nan)
