"""A visible label on rendered frames: the picture is synthetic."""

from __future__ import annotations

import cv2

from dancedist.arrays import Rgb

LABEL = "SYNTHETIC"
# As parts of the frame's shorter side.
_HEIGHT, _MARGIN = 0.035, 0.02
# Height in px of OpenCV's letters at scale 1.
_FONT, _FONT_PX = cv2.FONT_HERSHEY_DUPLEX, 22


def put_label(frame: Rgb) -> None:
    """Write the label into the lower left corner of a frame, uint8 RGB (H, W, 3), in place: white on a dark band."""
    height, width = frame.shape[:2]
    side = min(height, width)
    scale, margin = max(0.3, _HEIGHT * side / _FONT_PX), max(2, round(_MARGIN * side))
    thickness = max(1, round(scale))
    (text_width, text_height), descent = cv2.getTextSize(LABEL, _FONT, scale, thickness)
    top, right = max(0, height - text_height - descent - 2 * margin), min(width, text_width + 2 * margin)
    frame[top:, :right] //= 3
    origin = (margin, height - margin - descent)
    cv2.putText(frame, LABEL, origin, _FONT, scale, (255, 255, 255), thickness, cv2.LINE_AA)
