"""Crop a box of a picture, such as the face's, to a square and paste it back, without a shift of half a pixel.

Pixel centres are at whole numbers, in pictures and in crops. A box (x0, y0, x1, y1) uses the same coordinates, so a
keypoint at its centre is at the crop's centre. Pixel j of a crop of `size_px` covers the part
[x0 + j s, x0 + (j + 1) s] of the box, s = (x1 - x0) / size_px, and its centre is at x0 + (j + 1/2) s.
"""

from __future__ import annotations

from math import ceil
from typing import TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from dancedist.arrays import Box
from dancedist.pose.topology import Topology
from dancedist.recipe.schema import FigureRecipe
from dancedist.skeleton.draw import draw_figure

Pixels = TypeVar("Pixels", NDArray[np.uint8], NDArray[np.float32])


def to_crop(box: Box, size_px: int) -> NDArray[np.float64]:
    """Affine map, float64 (2, 3), from px of the picture to px of the crop."""
    x0, y0, x1, y1 = box
    sx, sy = size_px / (x1 - x0), size_px / (y1 - y0)
    return np.array([[sx, 0, -x0 * sx - 0.5], [0, sy, -y0 * sy - 0.5]])


def from_crop(box: Box, size_px: int) -> NDArray[np.float64]:
    """Affine map, float64 (2, 3), from px of the crop to px of the picture: the inverse of `to_crop`."""
    x0, y0, x1, y1 = box
    sx, sy = (x1 - x0) / size_px, (y1 - y0) / size_px
    return np.array([[sx, 0, x0 + sx / 2], [0, sy, y0 + sy / 2]])


def transform_points(matrix: NDArray[np.float64], xy: NDArray[np.float32]) -> NDArray[np.float32]:
    """Apply an affine map, float64 (2, 3), to points: float32 (..., 2) px -> float32 (..., 2) px."""
    return np.asarray(xy @ matrix[:, :2].T + matrix[:, 2], np.float32)


def crop_box(picture: Pixels, box: Box, size_px: int) -> Pixels:
    """Crop a box, px, of a picture (H, W, C) to (size_px, size_px, C): by area if it shrinks, else cubic.

    The picture is uint8 RGB or float32, and so is the crop. Outside the picture, its edge pixels are repeated.
    """
    return _resample(picture, from_crop(box, size_px), (size_px, size_px))


def paste_box(crop: Pixels, box: Box, size: tuple[int, int]) -> tuple[Pixels, slice, slice]:
    """Resample a crop (S, S, C), uint8 or float32, to the px of the picture whose centres are inside the box.

    `size` is (width, height) px of the picture. Returns the patch and the picture's rows and columns that it covers:
    `picture[rows, columns] = patch`, or `+=` for a residual. The patch is empty if the box is outside the picture.
    """
    (left, right), (top, bottom) = ((ceil(box[i]), ceil(box[i + 2])) for i in (0, 1))
    left, right, top, bottom = max(0, left), min(size[0], right), max(0, top), min(size[1], bottom)
    rows, columns = slice(top, max(top, bottom)), slice(left, max(left, right))
    if left >= right or top >= bottom:
        return np.empty((rows.stop - top, columns.stop - left, *crop.shape[2:]), crop.dtype), rows, columns
    back = to_crop(box, len(crop))
    back[:, 2] += back[:, :2] @ (left, top)
    return _resample(crop, back, (right - left, bottom - top)), rows, columns


def face_figure(
    xy: NDArray[np.float32],
    score: NDArray[np.float32],
    topology: Topology,
    box: Box,
    picture_size: tuple[int, int],
    size_px: int,
    recipe: FigureRecipe,
) -> NDArray[np.uint8]:
    """Draw the skeleton inside a box at the crop's own scale: uint8 RGB (size_px, size_px, 3).

    xy float32 (K, 2) px of the picture, score float32 (K,) in [0, 1], the box in the same px. Limb widths are those
    in the picture, scaled with the crop.
    """
    limb_width = recipe.limb_width * max(picture_size) / (box[2] - box[0])
    scaled = recipe.model_copy(update={"limb_width": limb_width})
    points = transform_points(to_crop(box, size_px), xy)
    return draw_figure(points, score, topology, (size_px, size_px), scaled)


def _resample(picture: Pixels, source: NDArray[np.float64], size: tuple[int, int]) -> Pixels:
    """Sample an output of `size` (width, height) px; `source` (2, 3), without rotation, maps its px to the picture's.

    If it shrinks, an output pixel is the mean of k x k samples at most one pixel of the picture apart: OpenCV's warps
    interpolate between a few pixels only and would skip the others.
    """
    k = ceil(max(source[0, 0], source[1, 1]) - 1e-6)
    fine = np.array([[source[0, 0], 0, source[0, 2]], [0, source[1, 1], source[1, 2]]])
    # The first of k samples of a pixel is (k - 1) / 2k of a pixel before its centre.
    fine[:, 2] += np.diag(fine[:, :2]) * (1 - k) / (2 * k)
    fine[:, :2] /= k
    flags = cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP
    samples = cv2.warpAffine(picture, fine, (size[0] * k, size[1] * k), flags=flags, borderMode=cv2.BORDER_REPLICATE)
    return samples if k == 1 else cv2.resize(samples, size, interpolation=cv2.INTER_AREA)  # type: ignore[return-value]
