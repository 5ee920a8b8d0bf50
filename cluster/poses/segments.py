"""Steps of one video: split it into segments, detect people in a segment, join the segments."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Protocol

from cluster.core.error_records import ErrorRecord
from cluster.poses.inputs import ListedVideo
from cluster.poses.names import segments_mark
from cluster.storage.base import OutputUnavailable, Storage, StorageUnavailable
from cluster.storage.download_cache import fetch_cached
from cluster.storage.open import open_storage
from dancedist.errors import DancedistError, FileInvalid, Notice, VideoTooLarge, VideoUnreadable
from dancedist.files import file_sha256
from dancedist.pose.detect import InferenceSpec, PeopleDetector
from dancedist.pose.networks import Frame
from dancedist.pose.people import People
from dancedist.pose.segments import PEOPLE_VERSION, POSES_VERSION, one_dancer, people_key, poses_key, segment_grid
from dancedist.pose.sequence import PoseSequence, write_poses
from dancedist.recipe.fingerprint import fingerprint, repr_as
from dancedist.recipe.schema import ExtractionRecipe, PoseRecipe, VideoRecipe
from dancedist.retarget.stats import STATS_VERSION, RetargetStats
from dancedist.video.decode import read_frames
from dancedist.video.prefetch import Prefetcher
from dancedist.video.probe import Video, VideoInfo, probe

# Increase when the same poses would give a different record.
RECORD_VERSION = 1
CACHED_SEGMENTS = 8


class Detector(Protocol):
    """Detects people in a segment."""

    @property
    def spec(self) -> InferenceSpec:
        """Networks and backend that it computes with."""

    def segment(self, frames: Iterable[Any]) -> People:
        """People in all frames."""


@dataclass(frozen=True)
class ExtractionJob:
    """Settings shared by all steps. `detector` is called once per worker."""

    output: str
    video: VideoRecipe
    pose: PoseRecipe
    extraction: ExtractionRecipe
    spec: InferenceSpec
    detector: Callable[[PoseRecipe], Detector] = PeopleDetector

    def done_name(self, listed: ListedVideo) -> str:
        """Name of the record that marks this video as done; computed without reading the video."""
        inputs = (
            repr_as("Listed", listed),
            repr_as("Means", self.spec),
            self.pose,
            self.video,
            PEOPLE_VERSION,
            POSES_VERSION,
        )
        return f"work/done/{fingerprint(*inputs, STATS_VERSION, RECORD_VERSION)}.json"


@dataclass(frozen=True, slots=True)
class Segment:
    """Frames [start, stop) of a video to process; 0 and 0 if all its segments were found done.

    `key` names the video's folder of segments, `frames` is the video's length, `segments` the number of all its
    segments, and `missing` the number of those still to process.
    """

    name: str
    uri: str
    size_bytes: int
    etag: str
    sha256: str
    key: str
    frames: int
    segments: int
    missing: int
    start_frame: int
    stop_frame: int

    @property
    def listed(self) -> ListedVideo:
        """The video of this segment."""
        return ListedVideo(self.name, self.uri, self.size_bytes, self.etag)


def segment_name(key: str, start_frame: int) -> str:
    """Name of the file with the people of a segment."""
    return f"work/segments/{key}/{start_frame:09d}.safetensors"


@dataclass(frozen=True, slots=True)
class DetectionResult:
    """A processed segment: seconds by step."""

    decode_s: float
    detect_s: float
    write_s: float


@dataclass(frozen=True, slots=True)
class JoinResult:
    """A finished video: its frames, notices and the seconds of joining."""

    name: str
    frames: int
    frames_with_dancer: int
    join_s: float
    notices: tuple[Notice, ...]


def split_video(job: ExtractionJob, listed: ListedVideo) -> list[Segment] | ErrorRecord:
    """Split a video on the recipe's grid; returns the segments that no earlier run has stored."""
    try:
        with _local_video(job, listed) as path:
            film = _probe_cached(path, listed.etag, job.video).info
            sha256 = file_sha256(path)
        key = people_key(sha256, job.pose, job.spec)
        with _output_storage(job) as store:
            done = {entry.name for entry in store.list(f"work/segments/{key}/")}
            store.write(f"work/segments/{key}/film.json", _film_to_json(film))
            store.write(f"work/segments/{key}/{segments_mark(listed.uri)}", b"")
    except DancedistError as error:
        return ErrorRecord.from_error(error, listed.name, listed.uri)
    grid = segment_grid(film.frames, job.pose.segment_frames)

    todo = [part for part in grid if segment_name(key, part[0]) not in done]
    counts = film.frames, len(grid), len(todo)
    template = Segment(listed.name, listed.uri, listed.size_bytes, listed.etag, sha256, key, *counts, 0, 0)
    return [replace(template, start_frame=start, stop_frame=stop) for start, stop in todo] or [template]


def detect_segment(job: ExtractionJob, detector: Detector, segment: Segment) -> DetectionResult | ErrorRecord:
    """Detect the people in a segment, and store them."""
    try:
        started_s = time.perf_counter()
        frames = Prefetcher(_segment_frames(job, segment))
        people = detector.segment(frames)
        detected_s = time.perf_counter()
        with _output_storage(job) as store:
            store.write(segment_name(segment.key, segment.start_frame), people.to_bytes())
        return DetectionResult(frames.seconds, detected_s - started_s, time.perf_counter() - detected_s)
    except DancedistError as error:
        return ErrorRecord.from_error(error, segment.name, segment.uri, segment.start_frame, segment.stop_frame)


def join_segments(job: ExtractionJob, segment: Segment) -> JoinResult | ErrorRecord:
    """Track one dancer through all segments of a video; write the poses, and the record with their statistics."""
    started_s = time.perf_counter()
    try:
        with _output_storage(job) as store:
            film = _film_from_json(store.read(f"work/segments/{segment.key}/film.json"), segment.uri)
            starts = [start for start, _ in segment_grid(film.frames, job.pose.segment_frames)]
            people = _StoredSegments(store, [segment_name(segment.key, start) for start in starts])
            key = poses_key(segment.sha256, job.pose, job.spec)
            poses = one_dancer(film, job.pose, people, job.spec, key)
            upload_poses(store, poses, f"poses/{segment.name}.parquet")
            store.write(job.done_name(segment.listed), _record(segment, poses))
    except DancedistError as error:
        return ErrorRecord.from_error(error, segment.name, segment.uri)
    present = int(poses.present.sum())
    return JoinResult(segment.name, len(poses), present, time.perf_counter() - started_s, poses.notices)


class _StoredSegments(Sequence[People]):
    """People of consecutive segments, read on demand: those of an hours-long video would not fit in memory."""

    def __init__(self, store: Storage, names: list[str]) -> None:
        self._store, self._names = store, names
        # The segments of short videos, the usual case, all fit into this cache and are read once.
        self._load_cached = lru_cache(maxsize=CACHED_SEGMENTS)(self._load)

    def __len__(self) -> int:
        return len(self._names)

    def __getitem__(self, i: Any) -> Any:
        return self._load_cached(self._names[i])

    def _load(self, name: str) -> People:
        try:
            return People.from_bytes(self._store.read(name), name)
        except FileInvalid:
            # Otherwise every later run would find this segment done.
            self._store.delete(name)
            raise


def upload_poses(store: Storage, poses: PoseSequence, name: str) -> None:
    """Write a PoseSequence to a store."""
    with TemporaryDirectory(prefix="dancedist-") as folder:
        write_poses(poses, Path(folder) / "poses.parquet")
        store.upload(Path(folder) / "poses.parquet", name)


def _record(segment: Segment, poses: PoseSequence) -> bytes:
    record = {
        "name": segment.name,
        "uri": segment.uri,
        "poses_key": poses.fingerprint,
        "frames": len(poses),
        "frames_with_dancer": int(poses.present.sum()),
        "fps": str(poses.fps),
        "notices": [asdict(n) for n in poses.notices],
        "stats": RetargetStats.of(poses).to_dict(),
    }
    return json.dumps(record).encode()


@contextmanager
def _local_video(job: ExtractionJob, listed: ListedVideo) -> Iterator[Path]:
    """The video as a local file; errors about the file name the video's URI instead."""
    try:
        yield fetch_cached(listed.uri, listed.size_bytes, listed.etag, job.extraction.cache_gb)
    except (VideoUnreadable, VideoTooLarge) as error:
        raise type(error)(error.message, file=listed.uri, expected=error.expected, got=error.got) from error


def _segment_frames(job: ExtractionJob, segment: Segment) -> Iterator[Frame | None]:
    with _local_video(job, segment.listed) as path:
        yield from read_frames(_probe_cached(path, segment.etag, job.video), segment.start_frame, segment.stop_frame)


@lru_cache(maxsize=2)
def _probe_cached(path: Path, etag: str, limits: VideoRecipe) -> Video:
    return probe(path, limits)


@contextmanager
def _output_storage(job: ExtractionJob) -> Iterator[Storage]:
    """The job's output storage; its StorageUnavailable becomes OutputUnavailable."""
    try:
        yield open_storage(job.output)
    except StorageUnavailable as error:
        raise OutputUnavailable(error.message, file=error.file, expected=error.expected, got=error.got) from error


def _film_to_json(film: VideoInfo) -> bytes:
    return json.dumps({**asdict(film), "path": "", "fps": str(film.fps)}).encode()


def _film_from_json(data: bytes, uri: str) -> VideoInfo:
    fields = json.loads(data)
    notices = tuple(Notice(**n) for n in fields["notices"])
    return VideoInfo(
        Path(uri.rpartition("/")[2]),
        fields["width"],
        fields["height"],
        Fraction(fields["fps"]),
        fields["frames"],
        notices,
    )
