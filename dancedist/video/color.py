"""Convert a decoded frame of any pixel format, matrix, range, aspect and rotation to upright RGB, square pixels."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import cv2
import numpy as np
from av.video.frame import VideoFrame
from av.video.plane import VideoPlane
from av.video.reformatter import Colorspace, Interpolation, VideoReformatter
from numpy.typing import NDArray

UNSPECIFIED = 2
SD_MAX_HEIGHT_PX = 576
SD_MAX_WIDTH_PX = 1024
# swscale's fast paths to packed RGB truncate instead of rounding: frames would be one level too dark.
EXACT = Interpolation.FAST_BILINEAR | Interpolation.ACCURATE_RND
FINE = Interpolation.BICUBIC | Interpolation.ACCURATE_RND


@dataclass(frozen=True)
class Shape:
    """Steps from a coded frame to an upright one: scale to square pixels, then transpose, then mirror."""

    square_size: tuple[int, int]
    transposed: bool = False
    mirror_x: bool = False
    mirror_y: bool = False

    @property
    def upright_size(self) -> tuple[int, int]:
        """(width, height) of the upright frame, px."""
        w, h = self.square_size
        return (h, w) if self.transposed else (w, h)


def square_size(width: int, height: int, sample_aspect: Fraction | None) -> tuple[int, int]:
    """(width, height) px after stretching the width by the sample aspect ratio, as players do."""
    return (max(1, round(width * sample_aspect)) if sample_aspect else width), height


def shape_of(frame: VideoFrame, size: tuple[int, int]) -> tuple[Shape, bool]:
    """Shape from the frame's display matrix, and whether the matrix consists of quarter turns and mirroring only.

    `size` is (width, height) px with square pixels. The matrix (ISO 14496-12, 8.2.2) maps a point (x, y) to
    (a x + c y, b x + d y).
    """
    data: Any = frame.side_data.get("DISPLAYMATRIX")
    if data is None:
        return Shape(size), True
    a, b, _, c, d = (float(v) for v in np.frombuffer(data, np.int32)[:5])
    straight, crossed = max(abs(a), abs(d)), max(abs(b), abs(c))
    plain = min(straight, crossed) <= 0.01 * max(straight, crossed)
    if crossed > straight:
        return Shape(size, True, mirror_x=c < 0, mirror_y=b < 0), plain
    return Shape(size, False, mirror_x=a < 0, mirror_y=d < 0), plain


class FrameConverter:
    """Convert the frames of one video to uint8 RGB (H, W, 3); the scaler's tables are reused between frames."""

    def __init__(self, shape: Shape) -> None:
        self._shape = shape
        self._reformatter = VideoReformatter()

    def rgb(self, frame: VideoFrame) -> NDArray[np.uint8]:
        """Upright uint8 RGB (H, W, 3). Raises av.FFmpegError if the pixel format cannot be converted."""
        width, height = self._shape.square_size
        same_size = (frame.width, frame.height) == (width, height)
        planar = self._reformatter.reformat(
            frame,
            width,
            height,
            "gbrp",
            src_colorspace=_matrix(frame),
            interpolation=EXACT if same_size else FINE,
            threads=1,
        )
        green, blue, red = (_plane(p, width, height) for p in planar.planes)
        picture = np.asarray(cv2.merge([red, green, blue]), np.uint8)
        if self._shape.transposed:
            picture = np.asarray(cv2.transpose(picture), np.uint8)
        if self._shape.mirror_x or self._shape.mirror_y:
            code = {(True, True): -1, (True, False): 1, (False, True): 0}[self._shape.mirror_x, self._shape.mirror_y]
            picture = np.asarray(cv2.flip(picture, code), np.uint8)
        return picture


def _plane(plane: VideoPlane, width: int, height: int) -> NDArray[np.uint8]:
    rows = np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)
    return rows[:height, :width]


def _matrix(frame: VideoFrame) -> int | None:
    """Colour matrix of an untagged frame: BT.709 for HD and BT.601 for SD, as in players; None for a tagged frame.

    swscale would use BT.601 for all untagged frames.
    """
    if frame.colorspace != UNSPECIFIED:
        return None
    hd = frame.height > SD_MAX_HEIGHT_PX or frame.width > SD_MAX_WIDTH_PX
    return Colorspace.ITU709 if hd else Colorspace.ITU601
