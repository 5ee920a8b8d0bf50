"""Baselines that a trained dancer must beat: the nearest training frame by pose (the paper's) and the mean frame."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from dancedist.arrays import Rgb
from dancedist.metrics.pose import detected
from dancedist.pose.sequence import PoseSequence

# Distances computed at a time: 2^22 float32 are 16 MiB, and a few such arrays exist at once.
_BLOCK = 1 << 22


def nearest_frames(train: PoseSequence, query: PoseSequence, min_score: float = 0.3) -> NDArray[np.int64]:
    """For each query pose the index of the training frame with the nearest pose: int64 (Q,).

    The paper's distance: mean Euclidean distance of the keypoints in the picture, px, position included. A keypoint
    that only one of the two poses has counts as the size of a typical training pose (median diagonal of its box), so
    that an incomplete pose has no advantage; two empty poses are equal. The first of equal frames wins.
    """
    assert len(train) > 0 and train.topology == query.topology
    train_detected, query_detected = (detected(p.xy, p.score, min_score) for p in (train, query))
    missing_px = _diagonal_px(train.xy, train_detected)
    rows = max(1, _BLOCK // len(train))
    nearest = [np.empty(0, np.int64)]
    for start in range(0, len(query), rows):
        block = slice(start, start + rows)
        costs = _costs(query.xy[block], query_detected[block], train.xy, train_detected, missing_px)
        nearest.append(costs.argmin(axis=1))
    return np.concatenate(nearest)


def mean_frame(frames: Iterable[Rgb | None]) -> Rgb:
    """Mean of all frames, uint8 RGB (H, W, 3); None (undecodable) is skipped. Memory: one sum, for any length.

    To use it as a video of `count` frames without their memory: `np.broadcast_to(mean, (count, *mean.shape))`.
    """
    total: NDArray[np.uint64] | None = None
    count = 0
    for frame in frames:
        if frame is not None:
            total = frame.astype(np.uint64) if total is None else np.add(total, frame, out=total)
            count += 1
    assert total is not None, "no frame to average"
    return ((total + count // 2) // count).astype(np.uint8)


def _costs(
    query_xy: NDArray[np.float32],
    query_detected: NDArray[np.bool_],
    train_xy: NDArray[np.float32],
    train_detected: NDArray[np.bool_],
    missing_px: float,
) -> NDArray[np.float32]:
    # (Q, N), keypoint by keypoint: (Q, N, K, 2) would not fit into memory.
    sums = np.zeros((len(query_xy), len(train_xy)), np.float32)
    counts = np.zeros_like(sums)
    for k in range(query_xy.shape[1]):
        q, n = query_detected[:, k, None], train_detected[None, :, k]
        gap = query_xy[:, None, k] - train_xy[None, :, k]
        sums += np.where(q & n, np.hypot(gap[..., 0], gap[..., 1]), np.where(q | n, missing_px, 0))
        counts += q | n
    return np.divide(sums, np.maximum(counts, 1), dtype=np.float32)


def _diagonal_px(xy: NDArray[np.float32], detected: NDArray[np.bool_]) -> float:
    present = detected.any(axis=1)
    if not present.any():
        return 1.0
    points, mask = xy[present], detected[present, :, None]
    low, high = np.where(mask, points, np.inf).min(axis=1), np.where(mask, points, -np.inf).max(axis=1)
    return float(np.median(np.linalg.norm(high - low, axis=1))) or 1.0
