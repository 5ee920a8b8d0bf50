"""What workers do to one video: read and cut it, find the people in one segment, join the segments."""

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

from cluster.core.error_records import Fault, OutputUnavailable
from cluster.poses.inputs import Listed
from cluster.privacy.footage import segments_mark
from cluster.storage.base import Storage, StorageUnavailable, open_storage
from cluster.storage.download_cache import fetched
from dancedist.errors import DancedistError, FileInvalid, Notice, VideoTooLarge, VideoUnreadable
from dancedist.pose.detect import Means, PeopleDetector
from dancedist.pose.networks import Frame
from dancedist.pose.people import People
from dancedist.pose.segments import PEOPLE_VERSION, POSES_VERSION, one_dancer, people_key, poses_key, segment_grid
from dancedist.pose.sequence import PoseSequence, write_poses
from dancedist.recipe import ExtractionRecipe, PoseRecipe, VideoRecipe, file_sha256, fingerprint
from dancedist.retarget.stats import STATS_VERSION, RetargetStats
from dancedist.video.decode import read_frames
from dancedist.video.prefetch import ReadAhead
from dancedist.video.probe import Film, Video, probe

# Changes when the same poses would be recorded in another way.
RECORD_VERSION = 1
KEPT_SEGMENTS = 8


class Detector(Protocol):
    """What finds the people of a segment."""

    @property
    def means(self) -> Means:
        """What it computes with."""

    def segment(self, frames: Iterable[Any]) -> People:
        """Everybody in these frames."""


@dataclass(frozen=True)
class Job:
    """All that the steps have in common. `detector` is called once a worker."""

    output: str
    video: VideoRecipe
    pose: PoseRecipe
    extraction: ExtractionRecipe
    means: Means
    detector: Callable[[PoseRecipe], Detector] = PeopleDetector

    def done_name(self, listed: Listed) -> str:
        """Name of the record that says this video is done; known without reading the video."""
        decides = (repr(listed), repr(self.means), self.pose, self.video, PEOPLE_VERSION, POSES_VERSION)
        return f"work/done/{fingerprint(*decides, STATS_VERSION, RECORD_VERSION)}.json"


@dataclass(frozen=True, slots=True)
class Segment:
    """Frames [start, stop) of a video, to be looked at; none where all segments of it were found done.

    `key` names the video's folder of segments, `frames` is its length, `segments` how many there are in all and
    `missing` how many of these have to be looked at.
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
    def listed(self) -> Listed:
        """The video it is of."""
        return Listed(self.name, self.uri, self.size_bytes, self.etag)


def segment_name(key: str, start_frame: int) -> str:
    """Where the people of a segment are kept."""
    return f"work/segments/{key}/{start_frame:09d}.safetensors"


@dataclass(frozen=True, slots=True)
class Looked:
    """A segment was looked at; what that took."""

    decode_s: float
    detect_s: float
    write_s: float


@dataclass(frozen=True, slots=True)
class Joined:
    """A video is done."""

    name: str
    frames: int
    frames_with_dancer: int
    join_s: float
    notices: tuple[Notice, ...]


def read(job: Job, listed: Listed) -> list[Segment] | Fault:
    """Cut a video on the grid of the recipe; only what no earlier run left behind is still to be looked at."""
    try:
        with _local(job, listed) as path:
            film = _probed(path, listed.etag, job.video).film
            sha256 = file_sha256(path)
        key = people_key(sha256, job.pose, job.means)
        with _output(job) as store:
            done = {entry.name for entry in store.list(f"work/segments/{key}/")}
            store.write(f"work/segments/{key}/film.json", _film_to_json(film))
            store.write(f"work/segments/{key}/{segments_mark(listed.uri)}", b"")
    except DancedistError as error:
        return Fault.of(error, listed.name, listed.uri)
    grid = segment_grid(film.frames, job.pose.segment_frames)

    todo = [part for part in grid if segment_name(key, part[0]) not in done]
    counts = film.frames, len(grid), len(todo)
    whole = Segment(listed.name, listed.uri, listed.size_bytes, listed.etag, sha256, key, *counts, 0, 0)
    return [replace(whole, start_frame=start, stop_frame=stop) for start, stop in todo] or [whole]


def look(job: Job, detector: Detector, segment: Segment) -> Looked | Fault:
    """Find everybody in a segment, and keep them."""
    try:
        started = time.perf_counter()
        frames = ReadAhead(_frames(job, segment))
        people = detector.segment(frames)
        found = time.perf_counter()
        with _output(job) as store:
            store.write(segment_name(segment.key, segment.start_frame), people.to_bytes())
        return Looked(frames.seconds, found - started, time.perf_counter() - found)
    except DancedistError as error:
        return Fault.of(error, segment.name, segment.uri, segment.start_frame, segment.stop_frame)


def join(job: Job, segment: Segment) -> Joined | Fault:
    """Follow one dancer through all segments of a video, and write poses, statistics and the record of both."""
    started = time.perf_counter()
    try:
        with _output(job) as store:
            film = _film_from_json(store.read(f"work/segments/{segment.key}/film.json"), segment.uri)
            starts = [start for start, _ in segment_grid(film.frames, job.pose.segment_frames)]
            people = _Kept(store, [segment_name(segment.key, start) for start in starts])
            key = poses_key(segment.sha256, job.pose, job.means)
            poses = one_dancer(film, job.pose, people, job.means, key)
            upload_poses(store, poses, f"poses/{segment.name}.parquet")
            store.write(job.done_name(segment.listed), _record(segment, poses))
    except DancedistError as error:
        return Fault.of(error, segment.name, segment.uri)
    present = int(poses.present.sum())
    return Joined(segment.name, len(poses), present, time.perf_counter() - started, poses.notices)


class _Kept(Sequence[People]):
    """The people of consecutive segments, read when they are asked for: those of hours would not fit in a worker."""

    def __init__(self, store: Storage, names: list[str]) -> None:
        self._store, self._names = store, names
        # Most videos are short, and theirs need not be read again.
        self._read = lru_cache(maxsize=KEPT_SEGMENTS)(self._read_now)

    def __len__(self) -> int:
        return len(self._names)

    def __getitem__(self, i: Any) -> Any:
        return self._read(self._names[i])

    def _read_now(self, name: str) -> People:
        try:
            return People.from_bytes(self._store.read(name), name)
        except FileInvalid:
            # Or it would be found done by every run to come.
            self._store.delete(name)
            raise


def upload_poses(store: Storage, poses: PoseSequence, name: str) -> None:
    """Write a PoseSequence into a store."""
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
def _local(job: Job, listed: Listed) -> Iterator[Path]:
    """The video as a local file; what is wrong with that is told of the video."""
    try:
        yield fetched(listed.uri, listed.size_bytes, listed.etag, job.extraction.cache_gb)
    except (VideoUnreadable, VideoTooLarge) as error:
        raise type(error)(error.message, file=listed.uri, expected=error.expected, got=error.got) from error


def _frames(job: Job, segment: Segment) -> Iterator[Frame | None]:
    with _local(job, segment.listed) as path:
        yield from read_frames(_probed(path, segment.etag, job.video), segment.start_frame, segment.stop_frame)


@lru_cache(maxsize=2)
def _probed(path: Path, etag: str, limits: VideoRecipe) -> Video:
    return probe(path, limits)


@contextmanager
def _output(job: Job) -> Iterator[Storage]:
    try:
        yield open_storage(job.output)
    except StorageUnavailable as error:
        raise OutputUnavailable(error.message, file=error.file, expected=error.expected, got=error.got) from error


def _film_to_json(film: Film) -> bytes:
    return json.dumps({**asdict(film), "path": "", "fps": str(film.fps)}).encode()


def _film_from_json(data: bytes, uri: str) -> Film:
    plain = json.loads(data)
    notices = tuple(Notice(**n) for n in plain["notices"])
    return Film(
        Path(uri.rpartition("/")[2]), plain["width"], plain["height"], Fraction(plain["fps"]), plain["frames"], notices
    )
