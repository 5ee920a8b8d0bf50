"""How long a dancer remembers how a rendering began: what its chunks are warmed up for."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from dancedist.bundle.bundle import Bundle
from dancedist.data.pairs import to_pictures
from dancedist.pose.sequence import PoseSequence
from dancedist.render.chunk import Part, last_present, render_together
from dancedist.render.plan import Chunk
from dancedist.render.seam import dancer_box, psnr_in_box
from dancedist.skeleton.face import Box

# A cold start is forgotten where it is this near to the unbroken rendering, in the dancer's box.
SETTLED_DB = 50.0
# So many cold starts, each watched until it is settled for HOLDS_FRAMES on end, and for LIMIT_FRAMES at most.
STARTS, HOLDS_FRAMES, LIMIT_FRAMES = 8, 8, 120


def settling_frames(bundle: Bundle, poses: PoseSequence) -> int | None:
    """Frames after which every rendering begun cold, with nothing before it, is the unbroken one within 50 dB.

    `poses` in px of the target's frame, of frames that it was not trained on. Measured at the network's size, the
    face included. None where one does not settle within 120 frames or what there is: it may never.
    """
    if not bundle.dancer.recipe.training.temporal:
        return 0
    frames = len(poses)
    watched = min(LIMIT_FRAMES, max(HOLDS_FRAMES, frames // 2))
    starts = sorted({*np.linspace(1, frames - watched, STARTS).round().astype(int).tolist()} - {0})
    if frames <= watched or not starts:
        return None
    boxes = _boxes(bundle, poses)
    unbroken = _Unbroken(bundle, poses)
    decibels: list[list[float]] = [[] for _ in starts]
    for i, t, picture in render_together(bundle, [Part(poses, Chunk(s, s + watched)) for s in starts]):
        decibels[i].append(psnr_in_box(unbroken[t], to_pictures(picture.whole)[0], boxes[t]))
        if i == len(starts) - 1 and all(_settled(of_start) for of_start in decibels):
            break
    return max(map(_forgotten_after, decibels)) if all(_settled(of_start) for of_start in decibels) else None


def _settled(decibels: Sequence[float]) -> bool:
    return len(decibels) >= HOLDS_FRAMES and min(decibels[-HOLDS_FRAMES:]) >= SETTLED_DB


def _forgotten_after(decibels: Sequence[float]) -> int:
    """The frame from which on all are near enough."""
    off = [t for t, value in enumerate(decibels) if value < SETTLED_DB]
    return off[-1] + 1 if off else 0


def _boxes(bundle: Bundle, poses: PoseSequence) -> list[Box | None]:
    """Of the dancer in every frame, px of the picture."""
    xy, shown = bundle.fit.points_to_picture(poses.xy), last_present(poses).tolist()
    size = bundle.fit.picture_size
    return [dancer_box(xy[i], poses.score[i], poses.topology, size) for i in shown]


class _Unbroken:
    """Pictures of the unbroken rendering, made when they are first asked for."""

    def __init__(self, bundle: Bundle, poses: PoseSequence) -> None:
        self._pictures = render_together(bundle, [Part(poses, Chunk(0, len(poses)))])
        self._made: list[NDArray[np.uint8]] = []

    def __getitem__(self, frame: int) -> NDArray[np.uint8]:
        while len(self._made) <= frame:
            self._made.append(to_pictures(next(self._pictures)[2].whole)[0])
        return self._made[frame]
