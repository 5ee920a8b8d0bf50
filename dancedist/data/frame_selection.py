"""Which frames of a video to keep when the cache cannot hold all of them: those whose poses differ most."""

from __future__ import annotations

from math import isqrt

import numpy as np
from numpy.typing import NDArray

from dancedist.pose.sequence import PoseSequence

FRAME_SELECTION_VERSION = 1
# Upper bound on computed distances: an hour's candidates against 4,000 choices, about ten seconds.
MAX_DISTANCES = 400_000_000

Frames = NDArray[np.int64]


def select_frames(poses: PoseSequence, pairs: Frames, budget_frames: int) -> Frames:
    """Select frames, int64 (N,), ascending, N <= `budget_frames`: both frames of every chosen pair (t-1, t).

    `pairs` int64 (P,) are the ends t of all pairs. Pairs are chosen farthest first (Gonzalez' greedy k-centre).
    Overlapping pairs share frames; the budget that this saves goes to more pairs, evenly spaced in time. The same
    poses give the same frames on every machine.
    """
    chosen = pairs[farthest_first(_features(poses)[pairs], budget_frames // 2)]
    selected = np.zeros(len(poses), np.bool_)
    while len(chosen):
        selected[chosen], selected[chosen - 1] = True, True
        remaining = pairs[~(selected[pairs] & selected[pairs - 1])]
        chosen = remaining[evenly_spaced(len(remaining), (budget_frames - int(selected.sum())) // 2)]
    return np.flatnonzero(selected)


def farthest_first(features: NDArray[np.float32], count: int) -> NDArray[np.int64]:
    """Indices, int64 (M,), M <= `count`, of rows: each is the one farthest from all rows before it.

    `features` float32 (N, D) hold whole numbers. The first row is the one nearest to the origin. If the search would
    take more than MAX_DISTANCES, candidates are thinned evenly, and at most `isqrt(MAX_DISTANCES / 2)` are chosen.
    Returns fewer than `count` when all remaining rows equal a chosen one.
    """
    count = min(count, len(features), isqrt(MAX_DISTANCES // 2))
    if count == 0:
        return np.empty(0, np.int64)
    candidates = evenly_spaced(len(features), MAX_DISTANCES // count)
    x = np.ascontiguousarray(features[candidates])
    squares = np.einsum("nd,nd->n", x, x)
    nearest = np.full(len(x), np.inf, np.float32)
    order = [int(squares.argmin())]
    while len(order) < count:
        # |x - c|^2 = |x|^2 - 2 x.c + |c|^2
        np.minimum(nearest, squares - 2 * (x @ x[order[-1]]) + squares[order[-1]], out=nearest)
        farthest = int(nearest.argmax())
        if nearest[farthest] == 0:
            break
        order.append(farthest)
    return candidates[order]


def evenly_spaced(total: int, count: int) -> NDArray[np.int64]:
    """Evenly spaced indices below `total`: int64 (min(count, total),)."""
    count = min(max(count, 0), total)
    return (np.arange(count) * total + total // 2) // max(count, 1)


def _features(poses: PoseSequence) -> NDArray[np.float32]:
    """Keypoint positions (T, 2K); a missing keypoint takes its mean offset from the pose centre.

    The values are whole numbers, small enough that all sums of squares are exact in float32. So the result does not
    depend on the order of summation, which differs between processors.
    """
    levels = isqrt((1 << 24) // (2 * len(poses.topology)))
    detected = ((poses.score > 0) & np.isfinite(poses.xy).all(axis=2))[..., None]
    relative = (np.where(detected, poses.xy, 0) - np.array(poses.size) / 2) / max(poses.size)
    positions = np.where(detected, np.rint(relative.clip(-0.5, 0.5) * (levels - 2)), 0).astype(np.int64)
    centre = positions.sum(axis=1, keepdims=True) // np.maximum(detected.sum(axis=1, keepdims=True), 1)
    offset = np.where(detected, positions - centre, 0).sum(axis=0) // np.maximum(detected.sum(axis=0), 1)
    filled = np.where(detected, positions, centre + offset).clip(-levels // 2, levels // 2)
    return filled.reshape(len(poses), -1).astype(np.float32)
