"""The complete film: a source's dance, rendered with a dancer."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dancedist.arrays import Rgb
from dancedist.bundle.bundle import Bundle
from dancedist.errors import FileInvalid, Notice
from dancedist.pose.sequence import PoseSequence
from dancedist.progress import Advance, silent
from dancedist.recipe.schema import VideoRecipe
from dancedist.render.chunk import render_chunk
from dancedist.render.compose import FrameComposer
from dancedist.render.plan import GROUP_FRAMES, Chunk
from dancedist.retarget.stats import RetargetStats
from dancedist.retarget.transform import retarget
from dancedist.skeleton.face import face_box
from dancedist.video.encode import write_film
from dancedist.video.probe import Video

# Frame rates that differ by a smaller part look the same.
_RATE_TOLERANCE = 0.02


@dataclass(frozen=True)
class Film:
    """A rendered film: its file, frames, (width, height) px, and notices on what degraded."""

    path: Path
    frames: int
    size: tuple[int, int]
    notices: tuple[Notice, ...]


def as_danced_by(bundle: Bundle, source_poses: PoseSequence) -> PoseSequence:
    """Retarget the source's poses to px of the target's frame; notices say what does not match.

    Raises FileInvalid if the poses have another topology than the dancer.
    """
    dancer = bundle.dancer
    if source_poses.topology.name != dancer.topology:
        expected, got = dancer.topology, source_poses.topology.name
        raise FileInvalid("the poses have another layout than the dancer", expected=expected, got=got)
    stats = RetargetStats.of(source_poses)
    poses = retarget(source_poses, stats, bundle.stats, dancer.recipe.retarget, dancer.frame_size)
    notices = list(poses.notices)
    if abs(float(source_poses.fps / bundle.fps) - 1) > _RATE_TOLERANCE:
        rates = float(source_poses.fps), float(bundle.fps)
        message = f"the source runs at {rates[0]:.2f} frames/s, the dancer was trained at {rates[1]:.2f}"
        notices.append(Notice("rate-differs", message))
    absent = np.flatnonzero(~poses.present)
    if len(absent):
        message = f"{len(absent)} of {len(poses)} frames show no dancer: the last pose is held"
        notices.append(Notice("pose-held", message, int(absent[0])))
    unseen = sum(face_box(*pose, poses.topology) is None for pose in zip(poses.xy, poses.score, strict=True))
    if bundle.face is not None and unseen:
        notices.append(Notice("face-unseen", f"{unseen} of {len(poses)} frames show no face: it is not refined there"))
    return PoseSequence(
        poses.xy, poses.score, poses.topology, poses.fps, poses.size, tuple(notices), poses.fingerprint, poses.model
    )


def render_frames(bundle: Bundle, poses: PoseSequence, advance: Advance = silent) -> Iterator[Rgb]:
    """Render frames, uint8 RGB (H, W, 3) in the target's size, for `poses` in px of the target's frame."""
    compose = FrameComposer(bundle)
    for picture in render_chunk(bundle, poses, Chunk(0, len(poses))):
        advance(1)
        yield compose(picture)


def render_film(
    bundle: Bundle,
    source: Video,
    source_poses: PoseSequence,
    out: Path,
    encoding: VideoRecipe,
    metadata: dict[str, str] | None = None,
    advance: Advance = silent,
) -> Film:
    """Write the film: the target's size and aspect, the source's length, rate and sound.

    `source_poses` in px of the source's frame. Raises FileInvalid if they have another topology than the dancer.
    """
    poses = as_danced_by(bundle, source_poses)
    frames = render_frames(bundle, poses, advance)
    audio = source.path if source.audio_codec else None
    write_film(
        out,
        frames,
        poses.fps,
        crf=encoding.crf,
        x264_preset=encoding.x264_preset,
        group_frames=GROUP_FRAMES,
        audio_from=audio,
        metadata=metadata,
    )
    return Film(out, len(poses), bundle.dancer.frame_size, poses.notices)
