"""Jitter out of poses: a confidence-adaptive median, or the One-Euro filter."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Literal

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from dancedist.pose.runtime import Floats

# Frames that are sorted at once: bounds the memory of an hour of film.
BLOCK_FRAMES = 2048
# One-Euro: cut-off at rest, Hz; how fast it opens, Hz per figure height a second; cut-off of the speed, Hz.
MIN_CUTOFF_HZ = 1.0
OPENS_HZ = 40.0
SPEED_CUTOFF_HZ = 3.0


def smooth(
    xy: Floats, score: Floats, fps: Fraction, method: Literal["median", "one_euro", "none"], window_frames: int = 7
) -> Floats:
    """xy (T, K, 2) px, NaN where absent, and score (T, K) -> smoothed xy (T, K, 2); what is absent stays so."""
    assert xy.shape == (*score.shape, 2), (xy.shape, score.shape)
    if method == "median":
        return adaptive_median(xy, score, window_frames)
    return one_euro(xy, fps) if method == "one_euro" else xy


def adaptive_median(xy: Floats, score: Floats, window_frames: int = 7) -> Floats:
    """Weighted median over `window_frames` (odd) frames round each; xy (T, K, 2), score (T, K) -> (T, K, 2).

    A frame weighs its score, and less the farther away it is. Two frames equally far count alike, as the lower
    score of both: so steady motion passes unchanged, with no lag, at the ends and beside absent frames too. The
    result is always a position that was seen.
    """
    assert window_frames % 2 == 1, window_frames
    reach = window_frames // 2
    near = (1 + reach - np.abs(np.arange(-reach, reach + 1))).astype(np.float32)
    out = np.empty_like(xy)
    for start in range(0, len(xy), BLOCK_FRAMES):
        here = slice(start, min(start + BLOCK_FRAMES, len(xy)))
        # The block and what its windows reach to beyond it, which at the ends is nothing.
        seen = slice(max(0, start - reach), here.stop + reach)
        pad = seen.start - (start - reach), max(0, seen.stop - len(xy))
        weight = np.where(np.isfinite(xy[seen]).all(axis=-1), score[seen], 0).astype(np.float32)
        padded_xy = np.pad(xy[seen], (pad, (0, 0), (0, 0)), constant_values=np.nan)
        weight = np.pad(weight, (pad, (0, 0)))
        weights = sliding_window_view(weight, window_frames, axis=0)
        weights = np.minimum(weights, weights[..., ::-1]) * near
        median = _weighted_median(sliding_window_view(padded_xy, window_frames, axis=0), weights[:, :, None, :])
        out[here] = np.where(weight[reach : len(weight) - reach, :, None] > 0, median, xy[here])
    return out


def _weighted_median(values: Floats, weights: Floats) -> Floats:
    """Along the last axis: the first value in order at which half of the weight is reached. NaN weighs nothing."""
    order = np.argsort(values, axis=-1)
    sums = np.cumsum(np.take_along_axis(np.broadcast_to(weights, values.shape), order, axis=-1), axis=-1)
    middle = np.argmax(2 * sums >= sums[..., -1:], axis=-1)[..., None]
    return np.take_along_axis(values, np.take_along_axis(order, middle, axis=-1), axis=-1)[..., 0]


def one_euro(xy: Floats, fps: Fraction) -> Floats:
    """One-Euro filter (Casiez et al., CHI 2012, eqs. 1-5): xy (T, K, 2) px -> (T, K, 2), absent frames kept.

    Speed is counted in figure heights, so that the result does not depend on the picture's size. It starts
    afresh after a keypoint was absent.
    """
    height = _figure_height(xy)
    rate = float(fps)
    out = xy.copy()
    speed = np.zeros(xy.shape[1:], np.float32)
    speed_share = _share(np.array(SPEED_CUTOFF_HZ), rate)
    for t in range(1, len(xy)):
        step = (xy[t] - out[t - 1]) * rate
        goes_on = np.isfinite(step)
        speed = np.where(goes_on, speed + speed_share * (step - speed), 0).astype(np.float32)
        cutoff = MIN_CUTOFF_HZ + OPENS_HZ * np.abs(speed) / height
        out[t] = np.where(goes_on, out[t - 1] + _share(cutoff, rate) * (xy[t] - out[t - 1]), xy[t])
    return out


def _share(cutoff_hz: NDArray[np.floating], rate_hz: float) -> NDArray[np.floating]:
    """Part of a new value that a first-order low pass lets through (eq. 5)."""
    turn = 2 * math.pi * cutoff_hz / rate_hz
    return turn / (turn + 1)


def _figure_height(xy: Floats) -> float:
    y = xy[(~np.isnan(xy[..., 1])).any(axis=1), :, 1]
    return max(1.0, float(np.median(np.nanmax(y, axis=1) - np.nanmin(y, axis=1)))) if len(y) else 1.0
