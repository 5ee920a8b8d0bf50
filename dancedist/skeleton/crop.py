"""A box of a picture, such as the face's, as a square of its own, and back: without a shift of half a pixel.

Pixel centres are at whole numbers, in pictures as in crops. A box (x0, y0, x1, y1) is measured in the same numbers, so
a keypoint at its middle is the crop's middle. Pixel j of a crop of `size_px` covers the part
[x0 + j s, x0 + (j + 1) s] of the box, s = (x1 - x0) / size_px, and its centre is at x0 + (j + 1/2) s.
"""

from __future__ import annotations

from math import ceil
from typing import TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from dancedist.pose.topology import Topology
from dancedist.recipe import FigureRecipe
from dancedist.skeleton.draw import draw_figure
from dancedist.skeleton.face import Box

Picture = TypeVar("Picture", NDArray[np.uint8], NDArray[np.float32])


def to_crop(box: Box, size_px: int) -> NDArray[np.float64]:
    """(2, 3) map from px of the picture to px of the crop."""
    x0, y0, x1, y1 = box
    sx, sy = size_px / (x1 - x0), size_px / (y1 - y0)
    return np.array([[sx, 0, -x0 * sx - 0.5], [0, sy, -y0 * sy - 0.5]])


def from_crop(box: Box, size_px: int) -> NDArray[np.float64]:
    """(2, 3) map from px of the crop to px of the picture: the inverse of `to_crop`."""
    x0, y0, x1, y1 = box
    sx, sy = (x1 - x0) / size_px, (y1 - y0) / size_px
    return np.array([[sx, 0, x0 + sx / 2], [0, sy, y0 + sy / 2]])


def mapped(matrix: NDArray[np.float64], xy: NDArray[np.float32]) -> NDArray[np.float32]:
    """(..., 2) px through a (2, 3) map."""
    return np.asarray(xy @ matrix[:, :2].T + matrix[:, 2], np.float32)


def cut(picture: Picture, box: Box, size_px: int) -> Picture:
    """The box of a picture (H, W, C) as (size_px, size_px, C): mean of the area where it shrinks, cubic else.

    Beyond the picture its edge is repeated.
    """
    return _resampled(picture, from_crop(box, size_px), (size_px, size_px))


def uncut(crop: Picture, box: Box, size: tuple[int, int]) -> tuple[Picture, slice, slice]:
    """A crop (S, S, C) at the px of a picture of `size` (width, height) whose centres lie in the box.

    Returns the patch and the picture's rows and columns that it covers: `picture[rows, columns] = patch`, or `+=` for
    a residual. Of a box beyond the picture nothing is left.
    """
    (left, right), (top, bottom) = ((ceil(box[i]), ceil(box[i + 2])) for i in (0, 1))
    left, right, top, bottom = max(0, left), min(size[0], right), max(0, top), min(size[1], bottom)
    rows, columns = slice(top, max(top, bottom)), slice(left, max(left, right))
    if left >= right or top >= bottom:
        return np.empty((rows.stop - top, columns.stop - left, *crop.shape[2:]), crop.dtype), rows, columns
    back = to_crop(box, len(crop))
    back[:, 2] += back[:, :2] @ (left, top)
    return _resampled(crop, back, (right - left, bottom - top)), rows, columns


def face_figure(
    xy: NDArray[np.float32],
    score: NDArray[np.float32],
    topology: Topology,
    box: Box,
    picture_size: tuple[int, int],
    size_px: int,
    recipe: FigureRecipe,
) -> NDArray[np.uint8]:
    """Stick figure in a box, drawn at the crop's own scale: uint8 (size_px, size_px, 3).

    xy (K, 2) px of the picture, score (K,), the box in the same px. Limbs are as wide as in the picture, enlarged.
    """
    limb_width = recipe.limb_width * max(picture_size) / (box[2] - box[0])
    scaled = recipe.model_copy(update={"limb_width": limb_width})
    return draw_figure(mapped(to_crop(box, size_px), xy), score, topology, (size_px, size_px), scaled)


def _resampled(picture: Picture, source: NDArray[np.float64], size: tuple[int, int]) -> Picture:
    """(width, height) px of `size` from where `source` (2, 3), without a turn, maps them to in the picture.

    Where it shrinks, a pixel is the mean of k x k samples that lie a pixel of the picture apart, or less: OpenCV's own
    warps look at a few pixels only, however many they skip.
    """
    k = ceil(max(source[0, 0], source[1, 1]) - 1e-6)
    fine = np.array([[source[0, 0], 0, source[0, 2]], [0, source[1, 1], source[1, 2]]])
    # The first of k samples in a pixel lies (k - 1) / 2k of a pixel before its centre.
    fine[:, 2] += np.diag(fine[:, :2]) * (1 - k) / (2 * k)
    fine[:, :2] /= k
    flags = cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP
    many = cv2.warpAffine(picture, fine, (size[0] * k, size[1] * k), flags=flags, borderMode=cv2.BORDER_REPLICATE)
    return many if k == 1 else cv2.resize(many, size, interpolation=cv2.INTER_AREA)  # type: ignore[return-value]
