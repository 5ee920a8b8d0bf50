"""From a video file to the poses of its dancer."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Lock

from dancedist.errors import FileInvalid
from dancedist.pose.detect import PeopleDetector, available_cores
from dancedist.pose.people import People
from dancedist.pose.segments import one_dancer, poses_key, segment_grid
from dancedist.pose.sequence import PoseSequence, read_poses, write_poses
from dancedist.progress import Advance, progress, silent
from dancedist.recipe import PoseRecipe, file_sha256
from dancedist.video.decode import read_frames
from dancedist.video.probe import Video


def extract(film: Video, pose: PoseRecipe, advance: Advance = silent) -> PoseSequence:
    """Poses of the dancer in a video; its notices tell what is wrong with it.

    `advance` is told of every frame that is done. Raises NoDancer, WeightsMissing,
    FileInvalid (a network that is none), RecipeInvalid.
    """
    return _extract(film, pose, _detector(film, pose), advance)


def extract_to(film: Video, out: Path, pose: PoseRecipe, advance: Advance = silent) -> PoseSequence:
    """`extract` into a poses file; what `out` holds already is read back if it was made of the same, the same way."""
    detector = _detector(film, pose)
    done = _done(out, poses_key(file_sha256(film.path), pose, detector.means))
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


def _extract(film: Video, pose: PoseRecipe, detector: PeopleDetector, advance: Advance) -> PoseSequence:
    lock = Lock()

    def tell(frames: int) -> None:
        with lock:
            advance(frames)

    def segment(bounds: tuple[int, int]) -> People:
        return detector.segment(read_frames(film, *bounds), tell)

    with ThreadPoolExecutor(detector.streams, "pose") as pool:
        people = list(pool.map(segment, segment_grid(film.frames, pose.segment_frames)))
    key = poses_key(file_sha256(film.path), pose, detector.means)
    return one_dancer(film.film, pose, people, detector.means, key)


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
