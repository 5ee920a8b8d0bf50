"""Distance of the poses detected on generated frames from the requested poses (the paper, section on metrics)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dancedist.arrays import Floats


def detected(xy: Floats, score: Floats, min_score: float) -> NDArray[np.bool_]:
    """Whether each keypoint was detected: float32 (..., K, 2) px and scores (..., K) -> bool (..., K)."""
    return np.asarray((score >= min_score) & (score > 0) & np.isfinite(xy).all(axis=-1), np.bool_)


def pose_distance_px(
    true_xy: Floats, true_score: Floats, generated_xy: Floats, generated_score: Floats, min_score: float = 0.3
) -> NDArray[np.float64]:
    """Mean Euclidean distance per frame over the keypoints detected in both poses, px.

    xy float32 (T, K, 2) px and score float32 (T, K), twice -> float64 (T,); NaN if no keypoint is detected in both.
    Of a partly detected pose only the detected part counts: read it together with `missed_detections`.
    """
    assert true_xy.shape == generated_xy.shape and true_score.shape == generated_score.shape == true_xy.shape[:2]
    both = detected(true_xy, true_score, min_score) & detected(generated_xy, generated_score, min_score)
    distances = np.linalg.norm(true_xy.astype(np.float64) - generated_xy, axis=-1)
    count = both.sum(axis=-1)
    sums = np.where(both, distances, 0).sum(axis=-1)
    return np.where(count > 0, sums / np.maximum(count, 1), np.nan)


def missed_detections(
    true_xy: Floats, true_score: Floats, generated_xy: Floats, generated_score: Floats, min_score: float = 0.3
) -> NDArray[np.float64]:
    """Count the keypoints per frame that are detected in the true pose and not in the generated one.

    xy float32 (T, K, 2) px and score float32 (T, K), twice -> float64 (T,); NaN if the true pose has no keypoint. The
    count depends on K (25 or more in the paper): compare numbers of one topology only.
    """
    assert true_xy.shape == generated_xy.shape and true_score.shape == generated_score.shape == true_xy.shape[:2]
    true = detected(true_xy, true_score, min_score)
    missed = (true & ~detected(generated_xy, generated_score, min_score)).sum(axis=-1)
    return np.where(true.any(axis=-1), missed, np.nan)
