"""Ground height under the dancer and height of the dancer in each frame."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from dancedist.pose.sequence import MIN_SCORE, PoseSequence

# Longest time in the air that counts as a jump, not as a step back: a jump of 0.8 m.
AIR_S = 0.8
CONTACT_SIGMA_S = 0.1


def ground_contact(poses: PoseSequence) -> NDArray[np.float64]:
    """Image row of the ground under the dancer, float64 (T,) px, down positive; all NaN if no ankle is ever present.

    The row of the lower ankle, with jumps of up to AIR_S removed (by a grey closing; steps in depth remain), smoothed.
    Frames without ankles are interpolated.
    """
    lower = nan_reduce(np.nanmax, keypoints_or_nan(poses, "left_ankle", "right_ankle")[..., 1])
    known = np.flatnonzero(np.isfinite(lower))
    if not len(known):
        return np.full(len(poses), np.nan)
    fps = float(poses.fps)
    filtered = ndimage.median_filter(np.interp(np.arange(len(poses)), known, lower[known]), 5, mode="nearest")
    length = 2 * round(AIR_S * fps / 2) + 1
    # Padded here: scipy's closing treats the edges differently in its two passes.
    closed = ndimage.grey_closing(np.pad(filtered, length, mode="edge"), length)[length:-length]
    return np.asarray(ndimage.gaussian_filter1d(closed, CONTACT_SIGMA_S * fps, mode="nearest"), np.float64)


def person_height(poses: PoseSequence) -> NDArray[np.float64]:
    """Height float64 (T,) px from the top of the head (the nose if the layout has no top) down to the lower ankle.

    It is the person's height only in an upright pose. The largest values are used, so single spikes are filtered out.
    NaN where a keypoint is absent or the person is upside down.
    """
    head = "head_top" if "head_top" in poses.topology.index else "nose"
    lower = nan_reduce(np.nanmax, keypoints_or_nan(poses, "left_ankle", "right_ankle")[..., 1])
    height = lower - keypoints_or_nan(poses, head)[:, 0, 1]
    known = np.isfinite(height)
    # Absent frames count as 0 in the median of 5, so that a single spike is always removed.
    filtered = ndimage.median_filter(np.where(known, height, 0.0), 5, mode="nearest")
    return np.where(known & (filtered > 0), filtered, np.nan)


def keypoints_or_nan(poses: PoseSequence, *names: str) -> NDArray[np.float64]:
    """The named keypoints, float64 (T, N, 2) px, NaN where absent."""
    rows = [poses.topology.index[n] for n in names]
    present = (poses.score[:, rows] >= MIN_SCORE) & np.isfinite(poses.xy[:, rows]).all(axis=2)
    return np.where(present[..., None], poses.xy[:, rows], np.nan).astype(np.float64)


def nan_reduce(reduce: Any, values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Reduce float64 (..., N) to (...) in the same unit; NaN where all N values are, without numpy's warning."""
    out = np.full(values.shape[:-1], np.nan)
    known = np.isfinite(values).any(axis=-1)
    out[known] = reduce(values[known], axis=-1)
    return out
