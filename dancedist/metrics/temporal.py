"""Similarity of two videos' motion: tOF and tLP (TecoGAN, Chu et al. 2020) and the warping error (Lai et al. 2018).

All compare two neighbouring frames in one crop that is the same for both frames and both videos. Blur and stillness
lower the warping error, so report it with others; a still video's tOF is the length of the true motion.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from dancedist.arrays import Rgb

Flow = NDArray[np.float32]
# DIS flow rejects smaller pictures.
MIN_FLOW_PX = 12


def flow(before: Rgb, after: Rgb) -> Flow:
    """Dense optical flow, float32 (H, W, 2) px: `before` at p is `after` at p + flow. Both uint8 RGB (H, W, 3).

    DIS (Kroeger et al. 2016), equal to the bit for any number of threads. TecoGAN uses Farneback's method: compare
    tOF within one flow method only.
    """
    assert before.shape == after.shape and max(before.shape[:2]) >= MIN_FLOW_PX, (before.shape, after.shape)
    grey = (cv2.cvtColor(np.ascontiguousarray(x), cv2.COLOR_RGB2GRAY) for x in (before, after))
    dis = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    return np.asarray(dis.calc(*grey, None), np.float32)  # type: ignore[call-overload]


def tof_px(true_flow: Flow, generated_flow: Flow) -> float:
    """TecoGAN's tOF: mean length of the difference of two flows, float32 (H, W, 2) px, in px per frame."""
    return float(np.linalg.norm(true_flow - generated_flow, axis=-1).mean(dtype=np.float64))


def tlp(true_change: NDArray[np.float64], generated_change: NDArray[np.float64]) -> NDArray[np.float64]:
    """TecoGAN's tLP: |LPIPS(x_{t-1}, x_t) - LPIPS(y_{t-1}, y_t)|, from the two LPIPS (its tables show it x 100).

    Scalars or arrays (N,) of float64 LPIPS, without unit; they broadcast.
    """
    return np.abs(true_change - generated_change)


def visible(forward: Flow, backward: Flow) -> NDArray[np.bool_]:
    """Which pixels of the first frame are visible in the second, bool (H, W), by the tests of Ruder et al. (2016).

    Flows float32 (H, W, 2) px. A pixel is visible if the backward flow leads back to it (within 0.5 px^2 and a
    hundredth of the motion), it is not on a motion boundary, and it stays inside the crop.
    """
    height, width = forward.shape[:2]
    back = _warp(backward, forward)
    consistent = _square(forward + back) <= 0.01 * (_square(forward) + _square(back)) + 0.5
    down, across = (np.asarray(np.gradient(forward, axis=axis), np.float32) for axis in (0, 1))
    gradient = _square(down) + _square(across)
    smooth = gradient <= 0.01 * _square(forward) + 0.002
    x, y = _targets(forward)
    inside = (x >= 0) & (x <= width - 1) & (y >= 0) & (y <= height - 1)
    return np.asarray(consistent & smooth & inside, np.bool_)


def warping_error(before: Rgb, after: Rgb, true_flow: Flow, visible: NDArray[np.bool_]) -> float:
    """Lai's E_warp of one pair of generated frames: mean squared difference between `before` and `after` warped back.

    `before`, `after`: uint8 RGB (H, W, 3); the error is computed on colours in [0, 1]. `true_flow`: float32 (H, W, 2)
    px, the *true* video's from its first to its second frame. The mean is over the `visible` pixels, bool (H, W), and
    the channels; NaN if no pixel is visible.
    """
    if not visible.any():
        return float("nan")
    difference = _warp(after.astype(np.float32), true_flow)[visible] - before[visible]
    return float(np.square(difference).mean(dtype=np.float64)) / 255**2


def _warp(picture: NDArray[np.float32], by: Flow) -> NDArray[np.float32]:
    x, y = _targets(by)
    return np.asarray(cv2.remap(picture, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE), np.float32)


def _targets(by: Flow) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    rows, columns = np.indices(by.shape[:2], dtype=np.float32)
    return columns + by[..., 0], rows + by[..., 1]


def _square(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(np.square(vectors).sum(axis=-1), np.float32)
