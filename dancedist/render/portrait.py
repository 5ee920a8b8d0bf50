"""The picture that a dancer is chosen by: one frame of theirs, as they are rendered."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dancedist.bundle.bundle import Bundle
from dancedist.pose.sequence import PoseSequence
from dancedist.render.film import render_frames
from dancedist.render.seam import dancer_box
from dancedist.skeleton.face import Box, face_boxes

# Rendered before it: as long as most dancers take to forget how they began, and no more.
_WARM_UP = 12


def portrait(bundle: Bundle, poses: PoseSequence) -> NDArray[np.uint8] | None:
    """A square round the whole dancer, uint8 RGB (S, S, 3), in the frame that shows most of them.

    `poses` in px of the target's frame. None where no frame shows anybody.
    """
    t = _best(poses)
    if t is None:
        return None
    box = dancer_box(poses.xy[t], poses.score[t], poses.topology, poses.size)
    *_, frame = render_frames(bundle, poses.slice(max(0, t - _WARM_UP), t + 1))
    return frame if box is None else _square(frame, box)


def _best(poses: PoseSequence) -> int | None:
    """The frame with the surest keypoints, of those with a face if there are any."""
    if not poses.present.any():
        return None
    faces = ~np.isnan(face_boxes(poses)[:, 0])
    return int(np.argmax(poses.score.mean(axis=1) + 10 * faces))


def _square(frame: NDArray[np.uint8], box: Box) -> NDArray[np.uint8]:
    """As much of the frame as a square of the box's longer side round it covers, moved inside the frame."""
    height, width = frame.shape[:2]
    side = min(height, width, round(max(box[2] - box[0], box[3] - box[1])))
    x = int(np.clip(round((box[0] + box[2] - side) / 2), 0, width - side))
    y = int(np.clip(round((box[1] + box[3] - side) / 2), 0, height - side))
    return np.ascontiguousarray(frame[y : y + side, x : x + side])
