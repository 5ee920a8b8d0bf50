"""Combine frames into one row."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

GAP_PX = 4


def side_by_side(
    frames: Sequence[NDArray[np.uint8]], height_px: int | None = None, gap_px: int = GAP_PX
) -> NDArray[np.uint8]:
    """Frames, uint8 RGB (H, W, 3) of any size, in one row of one height, with black gaps between them.

    Each keeps its aspect ratio; the default height is that of the tallest frame.
    """
    height = height_px or max(f.shape[0] for f in frames)
    gap = np.zeros((height, gap_px, 3), np.uint8)
    row: list[NDArray[np.uint8]] = []
    for frame in frames:
        row += [gap, _scale(frame, height)]
    return np.concatenate(row[1:], axis=1)


def _scale(frame: NDArray[np.uint8], height: int) -> NDArray[np.uint8]:
    if frame.shape[0] == height:
        return frame
    width = max(1, round(frame.shape[1] * height / frame.shape[0]))
    shrinks = height < frame.shape[0]
    return np.asarray(
        cv2.resize(frame, (width, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC), np.uint8
    )
