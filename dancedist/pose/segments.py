"""A film in segments on a fixed grid: what keys their people and the poses made of them, and how they are joined."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dancedist.errors import NoDancer
from dancedist.pose.detect import Means
from dancedist.pose.people import People
from dancedist.pose.sequence import PoseSequence
from dancedist.pose.smooth import smooth
from dancedist.pose.topology import TOPOLOGIES
from dancedist.pose.track import follow
from dancedist.recipe import PoseRecipe, fingerprint
from dancedist.video.probe import Film

# The first changes when the same frames would give other people, the second when the same people other poses.
PEOPLE_VERSION = 1
POSES_VERSION = 1
# What is in `Means`, or changes no bit.
_ELSEWHERE = {"threads", "backend", "detector", "model", "precision"}
_AFTER_DETECTION = {"smoothing", "smoothing_frames", "min_keypoint_score"}


def segment_grid(frames: int, segment_frames: int) -> list[tuple[int, int]]:
    """[start, stop) of the segments at which detector and tracker start afresh, on one machine as on many."""
    return [(start, min(start + segment_frames, frames)) for start in range(0, frames, segment_frames)]


def people_key(video_sha256: str, pose: PoseRecipe, means: Means) -> str:
    """Fingerprint of all that decides on who is found in a video's segments, before one dancer is followed."""
    settings = pose.model_dump_json(exclude=_ELSEWHERE | _AFTER_DETECTION)
    return fingerprint(video_sha256, settings, *_facts(means), PEOPLE_VERSION)


def poses_key(video_sha256: str, pose: PoseRecipe, means: Means) -> str:
    """Fingerprint of all that decides on a video's poses: its content, the recipe, weights, backend, this code."""
    settings = pose.model_dump_json(exclude=_ELSEWHERE)
    return fingerprint(video_sha256, settings, *_facts(means), PEOPLE_VERSION, POSES_VERSION)


def one_dancer(film: Film, pose: PoseRecipe, people: Sequence[People], means: Means, key: str) -> PoseSequence:
    """The dancer's smoothed poses, from everybody in the film's consecutive segments. Raises NoDancer."""
    xy, score, notices = follow(people)
    assert len(xy) == film.frames, (len(xy), film.frames)
    xy = smooth(xy, score, film.fps, pose.smoothing, pose.smoothing_frames)
    known = (score > 0) & (score >= pose.min_keypoint_score)
    xy[~known], score[~known] = np.nan, 0
    if not known.any():
        raise NoDancer("shows nobody", file=film.path, expected="a person", got=f"{film.frames} frames without one")
    return PoseSequence(
        xy=xy,
        score=score,
        topology=TOPOLOGIES[pose.topology],
        fps=film.fps,
        size=(film.width, film.height),
        notices=(*film.notices, *notices),
        fingerprint=key,
        model=means.label,
    )


def _facts(means: Means) -> tuple[str, ...]:
    return means.detector_sha256, means.model_sha256, means.backend, means.device, means.precision
