"""From a video file to the poses of its dancer."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Lock

import numpy as np

from dancedist.errors import FileInvalid, NoDancer, Notice
from dancedist.pose.detect import People, PeopleDetector, available_cores
from dancedist.pose.sequence import PoseSequence, read_poses, write_poses
from dancedist.pose.smooth import smooth
from dancedist.pose.track import follow
from dancedist.progress import Advance, progress, silent
from dancedist.recipe import PoseRecipe, file_sha256, fingerprint
from dancedist.video.decode import read_frames
from dancedist.video.probe import Video

# Changes when the same frames would give other poses.
CODE_VERSION = 1


def extract(film: Video, pose: PoseRecipe, advance: Advance = silent) -> PoseSequence:
    """Poses of the dancer in a video; its notices tell what is wrong with it.

    `advance` is told of every frame that is done. Raises NoDancer, WeightsMissing,
    FileInvalid (a network that is none), RecipeInvalid.
    """
    return _extract(film, pose, _detector(film, pose), advance)


def extract_to(film: Video, out: Path, pose: PoseRecipe, advance: Advance = silent) -> PoseSequence:
    """`extract` into a poses file; what `out` holds already is read back if it was made of the same, the same way."""
    detector = _detector(film, pose)
    done = _done(out, poses_key(film, pose, detector))
    if done is not None:
        advance(film.frames)
        return done
    poses = _extract(film, pose, detector, advance)
    write_poses(poses, out)
    return poses


def extract_with_progress(film: Video, out: Path, pose: PoseRecipe) -> PoseSequence:
    """`extract_to`, told on the terminal."""
    with progress(f"poses of {film.path.name}", film.frames) as advance:
        return extract_to(film, out, pose, advance)


def poses_key(film: Video, pose: PoseRecipe, detector: PeopleDetector) -> str:
    """Fingerprint of all that decides on a video's poses: its content, the recipe, weights, backend, this code."""
    settings = pose.model_dump_json(exclude={"threads", "backend", "detector", "model"})
    return fingerprint(file_sha256(film.path), settings, *detector.identity, CODE_VERSION)


def segment_grid(frames: int, segment_frames: int) -> list[tuple[int, int]]:
    """[start, stop) of the segments at which detector and tracker start afresh, on one machine as on many."""
    return [(start, min(start + segment_frames, frames)) for start in range(0, frames, segment_frames)]


def one_dancer(
    film: Video, pose: PoseRecipe, people: Sequence[People], detector: PeopleDetector, key: str
) -> PoseSequence:
    """The dancer's smoothed poses, from everybody in the film's consecutive segments. Raises NoDancer."""
    assert sum(map(len, people)) == film.frames, (sum(map(len, people)), film.frames)
    xy, score, notices = follow(people)
    xy = smooth(xy, score, film.fps, pose.smoothing, pose.smoothing_frames)
    known = (score > 0) & (score >= pose.min_keypoint_score)
    xy, score = np.where(known[..., None], xy, np.float32("nan")), np.where(known, score, np.float32(0))
    if not known.any():
        raise NoDancer("shows nobody", file=film.path, expected="a person", got=f"{film.frames} frames without one")
    return PoseSequence(
        xy=xy,
        score=score,
        topology=detector.topology,
        fps=film.fps,
        size=(film.width, film.height),
        notices=(*film.notices, *_undecodable(people), *notices),
        fingerprint=key,
        model=detector.label,
    )


def _extract(film: Video, pose: PoseRecipe, detector: PeopleDetector, advance: Advance) -> PoseSequence:
    lock = Lock()

    def tell(frames: int) -> None:
        with lock:
            advance(frames)

    def segment(bounds: tuple[int, int]) -> People:
        return detector.segment(read_frames(film, *bounds), tell)

    with ThreadPoolExecutor(detector.streams, "pose") as pool:
        people = list(pool.map(segment, segment_grid(film.frames, pose.segment_frames)))
    return one_dancer(film, pose, people, detector, poses_key(film, pose, detector))


def _detector(film: Video, pose: PoseRecipe) -> PeopleDetector:
    segments = len(segment_grid(film.frames, pose.segment_frames))
    return PeopleDetector(pose, streams=max(1, min(pose.threads or available_cores(), segments)))


def _done(out: Path, key: str) -> PoseSequence | None:
    if not out.exists():
        return None
    try:
        poses = read_poses(out)
    except FileInvalid:
        return None
    return poses if poses.fingerprint == key else None


def _undecodable(people: Sequence[People]) -> list[Notice]:
    missing = np.concatenate([p.missing for p in people])
    if not missing.any():
        return []
    text = f"{missing.sum()} of {len(missing)} frames cannot be decoded; nobody is taken to be there"
    return [Notice("undecodable-frames", text, int(np.argmax(missing)))]
