"""A dancer's portrait: a crop of one rendered frame, to choose the dancer by."""

from __future__ import annotations

import numpy as np

from dancedist.arrays import Box, Rgb
from dancedist.bundle.bundle import Bundle
from dancedist.pose.sequence import PoseSequence
from dancedist.render.film import render_frames
from dancedist.render.seam import dancer_box
from dancedist.skeleton.face import face_boxes

# Frames rendered before the portrait: most dancers settle within them.
_WARM_UP = 12


def portrait(bundle: Bundle, poses: PoseSequence) -> Rgb | None:
    """Render the frame that shows most of the dancer and crop a square around them, uint8 RGB (S, S, 3).

    `poses` in px of the target's frame. None if no frame shows a dancer.
    """
    t = _best_frame(poses)
    if t is None:
        return None
    box = dancer_box(poses.xy[t], poses.score[t], poses.topology, poses.size)
    *_, frame = render_frames(bundle, poses.slice(max(0, t - _WARM_UP), t + 1))
    return frame if box is None else _crop_square(frame, box)


def _best_frame(poses: PoseSequence) -> int | None:
    """The frame with the highest mean keypoint score; frames with a face are preferred."""
    if not poses.present.any():
        return None
    faces = ~np.isnan(face_boxes(poses)[:, 0])
    return int(np.argmax(poses.score.mean(axis=1) + 10 * faces))


def _crop_square(frame: Rgb, box: Box) -> Rgb:
    """Crop a square as large as the box's longer side, centred on the box and moved inside the frame."""
    height, width = frame.shape[:2]
    side = min(height, width, round(max(box[2] - box[0], box[3] - box[1])))
    x = int(np.clip(round((box[0] + box[2] - side) / 2), 0, width - side))
    y = int(np.clip(round((box[1] + box[3] - side) / 2), 0, height - side))
    return np.ascontiguousarray(frame[y : y + side, x : x + side])
