"""How many frames a cold start takes to match continuous rendering: the warm-up that a dancer's chunks need."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dancedist.arrays import Box, Rgb
from dancedist.bundle.bundle import Bundle
from dancedist.data.tensors import to_pictures
from dancedist.pose.sequence import PoseSequence
from dancedist.render.chunk import ChunkInput, last_present, render_batch
from dancedist.render.plan import Chunk
from dancedist.render.seam import dancer_box, psnr_in_box

# A cold start has settled when it is this close to the continuous rendering, in the dancer's box.
SETTLED_DB = 50.0
# Number of cold starts; each is rendered until it stays settled for HOLDS_FRAMES, and for LIMIT_FRAMES at most.
STARTS, HOLDS_FRAMES, LIMIT_FRAMES = 8, 8, 120


def settling_frames(bundle: Bundle, poses: PoseSequence) -> int | None:
    """Count the frames until every cold start matches continuous rendering to 50 dB.

    `poses` in px of the target's frame, of frames that the dancer was not trained on. Measured at the network's size,
    with the face. 0 for a dancer that sees no past. None if one start does not settle within 120 frames or within the
    poses: the dancer may never settle.
    """
    if not bundle.dancer.recipe.training.temporal:
        return 0
    frames = len(poses)
    length = min(LIMIT_FRAMES, max(HOLDS_FRAMES, frames // 2))
    starts = sorted({*np.linspace(1, frames - length, STARTS).round().astype(int).tolist()} - {0})
    if frames <= length or not starts:
        return None
    boxes = _boxes(bundle, poses)
    continuous = _ContinuousRendering(bundle, poses)
    decibels: list[list[float]] = [[] for _ in starts]
    for i, t, picture in render_batch(bundle, [ChunkInput(poses, Chunk(s, s + length)) for s in starts]):
        decibels[i].append(psnr_in_box(continuous[t], to_pictures(picture.state)[0], boxes[t]))
        if i == len(starts) - 1 and all(_settled(of_start) for of_start in decibels):
            break
    return max(map(_first_settled_frame, decibels)) if all(_settled(of_start) for of_start in decibels) else None


def _settled(decibels: Sequence[float]) -> bool:
    return len(decibels) >= HOLDS_FRAMES and min(decibels[-HOLDS_FRAMES:]) >= SETTLED_DB


def _first_settled_frame(decibels: Sequence[float]) -> int:
    """The frame from which on all are close enough."""
    unsettled = [t for t, value in enumerate(decibels) if value < SETTLED_DB]
    return unsettled[-1] + 1 if unsettled else 0


def _boxes(bundle: Bundle, poses: PoseSequence) -> list[Box | None]:
    """The dancer's box in every frame, px of the picture."""
    xy, pose_of_frame = bundle.letterbox.points_to_picture(poses.xy), last_present(poses).tolist()
    size = bundle.letterbox.picture_size
    return [dancer_box(xy[i], poses.score[i], poses.topology, size) for i in pose_of_frame]


class _ContinuousRendering:
    """Pictures of the dance rendered as one chunk, uint8 RGB (h, w, 3); rendered on demand."""

    def __init__(self, bundle: Bundle, poses: PoseSequence) -> None:
        self._stream = render_batch(bundle, [ChunkInput(poses, Chunk(0, len(poses)))])
        self._pictures: list[Rgb] = []

    def __getitem__(self, frame: int) -> Rgb:
        while len(self._pictures) <= frame:
            self._pictures.append(to_pictures(next(self._stream)[2].state)[0])
        return self._pictures[frame]
