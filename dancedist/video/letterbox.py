"""Fit a frame of any aspect into the network's picture: scale without distortion, pad at the edges."""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt

import cv2
import numpy as np
from numpy.typing import NDArray

from dancedist.recipe.fingerprint import repr_as


@dataclass(frozen=True)
class Letterbox:
    """A frame of `frame_size` (width, height) px inside a picture of `picture_size`: scaled, then shifted.

    `inner_size` is the size of the scaled frame, `offset` its upper left corner in the picture. The padding is less
    than one `multiple` per side.
    """

    frame_size: tuple[int, int]
    picture_size: tuple[int, int]
    inner_size: tuple[int, int]
    offset: tuple[int, int]

    @property
    def key(self) -> str:
        """Its part of a frame cache's key."""
        return repr_as("Fit", self)

    def to_picture(self, frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Frame uint8 RGB (H, W, 3) -> picture uint8 RGB (h, w, 3); the padding repeats the edge."""
        shrinks = self.inner_size[0] < self.frame_size[0]
        inner = cv2.resize(frame, self.inner_size, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC)
        (left, top), (w, h) = self.offset, self.picture_size
        right, bottom = w - left - self.inner_size[0], h - top - self.inner_size[1]
        return np.asarray(cv2.copyMakeBorder(inner, top, bottom, left, right, cv2.BORDER_REPLICATE), np.uint8)

    def to_frame(self, picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Picture uint8 RGB (h, w, 3) -> frame uint8 RGB (H, W, 3), without the padding."""
        (left, top), (w, h) = self.offset, self.inner_size
        inner = picture[top : top + h, left : left + w]
        if self.inner_size == self.frame_size:
            return np.ascontiguousarray(inner)
        grows = self.inner_size[0] < self.frame_size[0]
        return np.asarray(
            cv2.resize(inner, self.frame_size, interpolation=cv2.INTER_LANCZOS4 if grows else cv2.INTER_AREA), np.uint8
        )

    def points_to_picture(self, xy: NDArray[np.float32]) -> NDArray[np.float32]:
        """float32 (..., 2) px of the frame -> px of the picture. Pixel centres are at whole numbers."""
        scale = np.array(self.inner_size, np.float32) / np.array(self.frame_size, np.float32)
        return np.asarray((xy + 0.5) * scale - 0.5 + np.array(self.offset, np.float32), np.float32)

    def points_to_frame(self, xy: NDArray[np.float32]) -> NDArray[np.float32]:
        """Inverse of `points_to_picture`: float32 (..., 2) px of the picture -> px of the frame."""
        scale = np.array(self.inner_size, np.float32) / np.array(self.frame_size, np.float32)
        return np.asarray((xy - np.array(self.offset, np.float32) + 0.5) / scale - 0.5, np.float32)


def letterbox(frame_size: tuple[int, int], pixels: int, multiple: int) -> Letterbox:
    """Letterbox for a picture of about `pixels` px in area, with sides divisible by `multiple` (2^downsamplings)."""
    width, height = frame_size
    scale = sqrt(pixels / (width * height))
    picture = tuple(max(multiple, round(side * scale / multiple) * multiple) for side in frame_size)
    inner_scale = min(picture[0] / width, picture[1] / height)
    inner = (min(picture[0], max(1, round(width * inner_scale))), min(picture[1], max(1, round(height * inner_scale))))
    offset = ((picture[0] - inner[0]) // 2, (picture[1] - inner[1]) // 2)
    return Letterbox(frame_size, (picture[0], picture[1]), inner, offset)
