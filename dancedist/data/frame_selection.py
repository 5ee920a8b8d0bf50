"""Which frames of a film teach the most where not all can be kept: those whose poses lie farthest apart."""

from __future__ import annotations

from math import isqrt

import numpy as np
from numpy.typing import NDArray

from dancedist.pose.sequence import PoseSequence

SPREAD_VERSION = 1
# Distances that are computed at most: an hour's candidates against 4,000 choices, some ten seconds.
MAX_DISTANCES = 400_000_000

Frames = NDArray[np.int64]


def best_spread(poses: PoseSequence, pairs: Frames, budget_frames: int) -> Frames:
    """Frames (N,), ascending, N <= `budget_frames`: both of every chosen pair (t-1, t); `pairs` are its ends t.

    Pairs are chosen farthest first (Gonzalez' greedy k-centre); what room is left, as frames are shared, is given to
    others evenly in time. Of the same poses the same frames are chosen on every machine.
    """
    chosen = pairs[farthest_first(_features(poses)[pairs], budget_frames // 2)]
    kept = np.zeros(len(poses), np.bool_)
    while len(chosen):
        kept[chosen], kept[chosen - 1] = True, True
        left = pairs[~(kept[pairs] & kept[pairs - 1])]
        chosen = left[evenly(len(left), (budget_frames - int(kept.sum())) // 2)]
    return np.flatnonzero(kept)


def farthest_first(features: NDArray[np.float32], count: int) -> NDArray[np.int64]:
    """Up to `count` rows of (N, D), whole numbers: next comes always the one farthest from all that came before.

    Begins at the middle. Where that would take more than MAX_DISTANCES, candidates are thinned evenly, and no more
    than `isqrt(MAX_DISTANCES / 2)` are chosen. Fewer than `count` where no two others differ.
    """
    count = min(count, len(features), isqrt(MAX_DISTANCES // 2))
    if count == 0:
        return np.empty(0, np.int64)
    candidates = evenly(len(features), MAX_DISTANCES // count)
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


def evenly(total: int, count: int) -> NDArray[np.int64]:
    """(min(count, total),) of the numbers below `total`, evenly spread."""
    count = min(max(count, 0), total)
    return (np.arange(count) * total + total // 2) // max(count, 1)


def _features(poses: PoseSequence) -> NDArray[np.float32]:
    """(T, 2K) where a pose's keypoints are; one that is absent is where it usually is on the others' middle.

    In whole numbers so small that all sums of squares are exact: no order of summing, so no processor, tells.
    """
    levels = isqrt((1 << 24) // (2 * len(poses.topology)))
    seen = (poses.score > 0) & np.isfinite(poses.xy).all(axis=2)
    shown = seen[..., None]
    part = (np.where(shown, poses.xy, 0) - np.array(poses.size) / 2) / max(poses.size)
    places = np.where(shown, np.rint(part.clip(-0.5, 0.5) * (levels - 2)), 0).astype(np.int64)
    middle = places.sum(axis=1, keepdims=True) // np.maximum(shown.sum(axis=1, keepdims=True), 1)
    usual = np.where(shown, places - middle, 0).sum(axis=0) // np.maximum(shown.sum(axis=0), 1)
    filled = np.where(shown, places, middle + usual).clip(-levels // 2, levels // 2)
    return filled.reshape(len(poses), -1).astype(np.float32)
