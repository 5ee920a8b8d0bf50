"""A visible label: that what is seen is synthetic."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

LABEL = "SYNTHETIC"
# As parts of the frame's shorter side.
_HEIGHT, _MARGIN = 0.035, 0.02
# OpenCV's letters of scale 1 are so high.
_FONT, _FONT_PX = cv2.FONT_HERSHEY_DUPLEX, 22


def put_label(frame: NDArray[np.uint8]) -> None:
    """Write it into the lower left corner of a frame, uint8 RGB (H, W, 3), in place: white on a darkened band."""
    height, width = frame.shape[:2]
    side = min(height, width)
    scale, margin = max(0.3, _HEIGHT * side / _FONT_PX), max(2, round(_MARGIN * side))
    thickness = max(1, round(scale))
    (text_width, text_height), below = cv2.getTextSize(LABEL, _FONT, scale, thickness)
    top, right = max(0, height - text_height - below - 2 * margin), min(width, text_width + 2 * margin)
    frame[top:, :right] //= 3
    at = (margin, height - margin - below)
    cv2.putText(frame, LABEL, at, _FONT, scale, (255, 255, 255), thickness, cv2.LINE_AA)
