"""Similarity of two pictures: SSIM and PSNR, on crops that are the same for both.

The convention for crops, as in the paper: the box is computed from the *true* pose (`skeleton.face.body_box` with its
margin, `skeleton.face.face_box`), rounded outwards to whole pixels and limited to the picture (`metrics.crop`). The
true and the generated frame are cropped alike, at their own size.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from dancedist.arrays import Rgb
from dancedist.metrics.crop import MIN_CROP_PX

PSNR_CAP_DB = 100.0


class Frames(Protocol):
    """Pictures of one size, uint8 RGB (H, W, 3), by index: an array (T, H, W, 3), a list, or read on demand."""

    def __len__(self) -> int: ...

    def __getitem__(self, frame: int, /) -> Rgb: ...

    def __iter__(self) -> Iterator[Rgb]: ...


def psnr(a: Rgb, b: Rgb) -> NDArray[np.float64]:
    """Peak signal-to-noise ratio per picture: uint8 RGB (T, H, W, 3) twice -> float64 (T,) dB. The data range is 255.

    Capped at 100 dB, the value of equal pictures, so that a mean stays finite.
    """
    assert a.shape == b.shape and a.ndim == 4, (a.shape, b.shape)
    squares = [np.square(x.astype(np.float32) - y).mean(dtype=np.float64) for x, y in zip(a, b, strict=True)]
    with np.errstate(divide="ignore"):
        decibels = 10 * np.log10(255.0**2 / np.array(squares, np.float64))
    return np.asarray(np.minimum(decibels, PSNR_CAP_DB), np.float64)


def ssim(a: Rgb, b: Rgb) -> NDArray[np.float64]:
    """Structural similarity per picture (Wang et al. 2004): uint8 RGB (T, H, W, 3) twice -> float64 (T,), 1 for equal.

    Gaussian window of 11 px and sigma 1.5, data range 255, edges mirrored, mean over pixels and channels. Equal to
    torchmetrics' `structural_similarity_index_measure` and ten times as fast, because the window is separable.
    """
    assert a.shape == b.shape and a.ndim == 4 and min(a.shape[1:3]) >= MIN_CROP_PX, (a.shape, b.shape)
    return np.array([_ssim(x, y) for x, y in zip(a, b, strict=True)], np.float64)


def _ssim(a: Rgb, b: Rgb) -> float:
    x, y = a.astype(np.float32), b.astype(np.float32)
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    mean_x, mean_y = _blur(x), _blur(y)
    var_x = np.maximum(_blur(x * x) - mean_x * mean_x, 0)
    var_y = np.maximum(_blur(y * y) - mean_y * mean_y, 0)
    covariance = _blur(x * y) - mean_x * mean_y
    upper = (2 * mean_x * mean_y + c1) * (2 * covariance + c2)
    lower = (mean_x * mean_x + mean_y * mean_y + c1) * (var_x + var_y + c2)
    return float((upper / lower).mean(dtype=np.float64))


def _blur(x: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(cv2.GaussianBlur(x, (11, 11), 1.5, borderType=cv2.BORDER_REFLECT_101), np.float32)
