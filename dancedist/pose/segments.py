"""A video in segments on a fixed grid: fingerprints of people and poses, and assembly of one dancer's poses."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dancedist.errors import NoDancer
from dancedist.pose.detect import InferenceSpec
from dancedist.pose.people import People
from dancedist.pose.sequence import PoseSequence
from dancedist.pose.smooth import smooth
from dancedist.pose.topology import TOPOLOGIES
from dancedist.pose.track import select_track
from dancedist.recipe.fingerprint import fingerprint
from dancedist.recipe.schema import PoseRecipe
from dancedist.video.probe import VideoInfo

# PEOPLE_VERSION: change it if the same frames give different people. POSES_VERSION: if the same people give
# different poses.
PEOPLE_VERSION = 1
POSES_VERSION = 1
# Fields that the inference spec covers, or that do not change the result.
_NOT_IN_KEY = {"threads", "backend", "detector", "model", "precision"}
_AFTER_DETECTION = {"smoothing", "smoothing_frames", "min_keypoint_score"}


def segment_grid(frames: int, segment_frames: int) -> list[tuple[int, int]]:
    """[start, stop) frames of the segments; detector and tracker restart at each, on one machine and on a cluster."""
    return [(start, min(start + segment_frames, frames)) for start in range(0, frames, segment_frames)]


def people_key(video_sha256: str, pose: PoseRecipe, spec: InferenceSpec) -> str:
    """Fingerprint of everything that the detected people of a video's segments depend on."""
    settings = pose.model_dump_json(exclude=_NOT_IN_KEY | _AFTER_DETECTION)
    return fingerprint(video_sha256, settings, *_spec_fields(spec), PEOPLE_VERSION)


def poses_key(video_sha256: str, pose: PoseRecipe, spec: InferenceSpec) -> str:
    """Fingerprint of everything that a video's poses depend on: its content, the recipe, weights, backend, code."""
    settings = pose.model_dump_json(exclude=_NOT_IN_KEY)
    return fingerprint(video_sha256, settings, *_spec_fields(spec), PEOPLE_VERSION, POSES_VERSION)


def one_dancer(
    info: VideoInfo, pose: PoseRecipe, people: Sequence[People], spec: InferenceSpec, key: str
) -> PoseSequence:
    """The dancer's smoothed poses, from the people in the video's consecutive segments. Raises NoDancer."""
    xy, score, notices = select_track(people)
    assert len(xy) == info.frames, (len(xy), info.frames)
    xy = smooth(xy, score, info.fps, pose.smoothing, pose.smoothing_frames)
    known = (score > 0) & (score >= pose.min_keypoint_score)
    xy[~known], score[~known] = np.nan, 0
    if not known.any():
        raise NoDancer("shows nobody", file=info.path, expected="a person", got=f"{info.frames} frames without one")
    return PoseSequence(
        xy=xy,
        score=score,
        topology=TOPOLOGIES[pose.topology],
        fps=info.fps,
        size=(info.width, info.height),
        notices=(*info.notices, *notices),
        fingerprint=key,
        model=spec.label,
    )


def _spec_fields(spec: InferenceSpec) -> tuple[str, ...]:
    return spec.detector_sha256, spec.model_sha256, spec.backend, spec.device, spec.precision
