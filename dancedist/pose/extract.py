"""Extract the dancer's poses from a video file."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Lock

from dancedist.errors import FileInvalid
from dancedist.files import file_sha256
from dancedist.pose.detect import PeopleDetector, available_cores
from dancedist.pose.people import People
from dancedist.pose.segments import one_dancer, poses_key, segment_grid
from dancedist.pose.sequence import PoseSequence, read_poses, write_poses
from dancedist.progress import Advance, progress, silent
from dancedist.recipe.schema import PoseRecipe
from dancedist.video.decode import read_frames
from dancedist.video.probe import Video


def extract(video: Video, pose: PoseRecipe, advance: Advance = silent) -> PoseSequence:
    """Poses of the dancer in a video; the notices list the problems that were found.

    `advance` is called with the number of frames processed. Raises NoDancer, WeightsMissing, RecipeInvalid, and
    FileInvalid if a network file is not a usable network.
    """
    return _extract(video, pose, _detector(video, pose), advance)


def extract_to(video: Video, out: Path, pose: PoseRecipe, advance: Advance = silent) -> PoseSequence:
    """`extract` into a poses file; an existing `out` with the same fingerprint is read instead."""
    detector = _detector(video, pose)
    cached = _cached(out, poses_key(file_sha256(video.path), pose, detector.spec))
    if cached is not None:
        advance(video.frames)
        return cached
    poses = _extract(video, pose, detector, advance)
    write_poses(poses, out)
    return poses


def extract_with_progress(video: Video, out: Path, pose: PoseRecipe) -> PoseSequence:
    """`extract_to` with progress on the terminal."""
    with progress(f"poses of {video.path.name}", video.frames) as advance:
        return extract_to(video, out, pose, advance)


def _extract(video: Video, pose: PoseRecipe, detector: PeopleDetector, advance: Advance) -> PoseSequence:
    lock = Lock()

    def report(frames: int) -> None:
        with lock:
            advance(frames)

    def segment(bounds: tuple[int, int]) -> People:
        return detector.segment(read_frames(video, *bounds), report)

    with ThreadPoolExecutor(detector.streams, "pose") as pool:
        people = list(pool.map(segment, segment_grid(video.frames, pose.segment_frames)))
    key = poses_key(file_sha256(video.path), pose, detector.spec)
    return one_dancer(video.info, pose, people, detector.spec, key)


def _detector(video: Video, pose: PoseRecipe) -> PeopleDetector:
    segments = len(segment_grid(video.frames, pose.segment_frames))
    return PeopleDetector(pose, streams=max(1, min(pose.threads or available_cores(), segments)))


def _cached(out: Path, key: str) -> PoseSequence | None:
    """The poses in `out` if their fingerprint is `key`; None for a missing, unreadable or other file."""
    if not out.exists():
        return None
    try:
        poses = read_poses(out)
    except FileInvalid:
        return None
    return poses if poses.fingerprint == key else None
