"""Remove jitter from poses with a confidence-adaptive median or the One-Euro filter."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Literal

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from dancedist.arrays import Floats

# Frames sorted at once: bounds the memory of an hour of poses.
BLOCK_FRAMES = 2048
# One-Euro: cut-off at rest, Hz; its slope, Hz per (person's height per second); cut-off of the speed, Hz.
MIN_CUTOFF_HZ = 1.0
CUTOFF_SLOPE = 40.0
SPEED_CUTOFF_HZ = 3.0


def smooth(
    xy: Floats, score: Floats, fps: Fraction, method: Literal["median", "one_euro", "none"], length_frames: int = 7
) -> Floats:
    """Smooth xy float32 (T, K, 2) px, NaN where absent, with score float32 (T, K) in [0, 1].

    Returns xy of the same shape, type and unit; absent keypoints stay absent.
    """
    assert xy.shape == (*score.shape, 2), (xy.shape, score.shape)
    if method == "median":
        return adaptive_median(xy, score, length_frames)
    return one_euro(xy, fps) if method == "one_euro" else xy


def adaptive_median(xy: Floats, score: Floats, length_frames: int = 7) -> Floats:
    """Weighted median over `length_frames` (odd) frames around each frame.

    xy float32 (T, K, 2) px, NaN where absent, and score float32 (T, K) in [0, 1] -> xy float32 (T, K, 2) px.

    A frame's weight is its score, decreasing with its distance. Two frames at the same distance both get the lower
    of their scores: so steady motion passes unchanged, without lag, also at the ends and beside absent frames. Every
    result is one of the input positions.
    """
    assert length_frames % 2 == 1, length_frames
    radius = length_frames // 2
    kernel = (1 + radius - np.abs(np.arange(-radius, radius + 1))).astype(np.float32)
    out = np.empty_like(xy)
    for start in range(0, len(xy), BLOCK_FRAMES):
        block = slice(start, min(start + BLOCK_FRAMES, len(xy)))
        # The block with `radius` frames on either side; at the ends of the sequence these are padded as absent.
        padded = slice(max(0, start - radius), block.stop + radius)
        pad = padded.start - (start - radius), max(0, padded.stop - len(xy))
        weight = np.where(np.isfinite(xy[padded]).all(axis=-1), score[padded], 0).astype(np.float32)
        padded_xy = np.pad(xy[padded], (pad, (0, 0), (0, 0)), constant_values=np.nan)
        weight = np.pad(weight, (pad, (0, 0)))
        weights = sliding_window_view(weight, length_frames, axis=0)
        weights = np.minimum(weights, weights[..., ::-1]) * kernel
        median = _weighted_median(sliding_window_view(padded_xy, length_frames, axis=0), weights[:, :, None, :])
        out[block] = np.where(weight[radius : len(weight) - radius, :, None] > 0, median, xy[block])
    return out


def _weighted_median(values: Floats, weights: Floats) -> Floats:
    """Along the last axis: the smallest value with at least half of the weight at or below it. NaN weighs nothing."""
    order = np.argsort(values, axis=-1)
    sums = np.cumsum(np.take_along_axis(np.broadcast_to(weights, values.shape), order, axis=-1), axis=-1)
    middle = np.argmax(2 * sums >= sums[..., -1:], axis=-1)[..., None]
    return np.take_along_axis(values, np.take_along_axis(order, middle, axis=-1), axis=-1)[..., 0]


def one_euro(xy: Floats, fps: Fraction) -> Floats:
    """One-Euro filter (Casiez et al., CHI 2012, eqs. 1-5): xy float32 (T, K, 2) px -> xy of the same shape and unit.

    Speed is measured in heights of the person, so that the result does not depend on the frame's size. Absent
    keypoints (NaN) stay absent; the filter restarts after each.
    """
    height = _person_height(xy)
    rate = float(fps)
    out = xy.copy()
    speed = np.zeros(xy.shape[1:], np.float32)
    speed_factor = _smoothing_factor(np.array(SPEED_CUTOFF_HZ), rate)
    for t in range(1, len(xy)):
        step = (xy[t] - out[t - 1]) * rate
        present = np.isfinite(step)
        speed = np.where(present, speed + speed_factor * (step - speed), 0).astype(np.float32)
        cutoff = MIN_CUTOFF_HZ + CUTOFF_SLOPE * np.abs(speed) / height
        out[t] = np.where(present, out[t - 1] + _smoothing_factor(cutoff, rate) * (xy[t] - out[t - 1]), xy[t])
    return out


def _smoothing_factor(cutoff_hz: NDArray[np.floating], rate_hz: float) -> NDArray[np.floating]:
    """Smoothing factor alpha of a first-order low-pass filter (eq. 5)."""
    ratio = 2 * math.pi * cutoff_hz / rate_hz
    return ratio / (ratio + 1)


def _person_height(xy: Floats) -> float:
    y = xy[(~np.isnan(xy[..., 1])).any(axis=1), :, 1]
    return max(1.0, float(np.median(np.nanmax(y, axis=1) - np.nanmin(y, axis=1)))) if len(y) else 1.0
