"""Videos -> PoseSequences and retarget statistics, on any number of nodes.

Videos are cut on a fixed grid of frames, not by worker count, and every step is a function of its input alone: the
result is the same to the byte for any number of workers, and after any death.
"""

from __future__ import annotations

import json
import logging
import traceback
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import asdict
from typing import Any

import ray
from ray.exceptions import RayError, RayTaskError

from cluster.core import logs
from cluster.core.error_records import Fault, Unexpected, WorkerLost, WorkersUnfit
from cluster.core.metrics import POSES_FAULTS, POSES_FRAMES, POSES_SECONDS
from cluster.core.session import asked_for, room_for
from cluster.poses.inputs import Listed
from cluster.poses.pool import WorkerPool
from cluster.poses.segments import Detector, Job, Joined, Looked, Segment, join, look, read
from cluster.storage.base import open_storage
from dancedist.errors import DancedistError

log = logging.getLogger("dancedist")

# A segment that was looked at, a video with nothing to look at, something wrong, or (None) no news.
Answer = tuple[Segment, Looked] | Segment | Fault | None
# Reading and joining wait for disks and networks: a worker leaves them a tenth of its cores, in which one of each
# fits per core. More at once would each begin with seconds of imports.
WORKER_SHARE, SMALL_CPUS = 0.9, 0.05
LOOK_AGAIN_S = 0.1
# Videos are read so far ahead of detection, and so many by one task.
SLICE_BYTES, SLICE_VIDEOS, BLOCK_VIDEOS = 16_000_000_000, 512, 8


def extract(
    job: Job, videos: Sequence[Listed], workers: int, tell: Callable[[Answer], None]
) -> Generator[Joined | Fault, None, None]:
    """Poses of all videos, each told of when it is done or known to fail; `tell` hears of every segment."""
    segments = read_videos(job, videos)
    people = find_people(job, segments, workers)
    whole = whole_videos(people, tell)
    return join_videos(job, whole)


def read_videos(job: Job, videos: Sequence[Listed]) -> Iterator[Segment | Fault]:
    """Look at every video and cut it, on all nodes; what costs its process twice is a fault."""
    for some in _slices(videos):
        left = {listed.name: listed for listed in some}
        for videos_a_task in (BLOCK_VIDEOS, 1):
            for found in _read(job, [*left.values()], videos_a_task):
                left.pop(found.name, None)
                yield found
            if not left:
                break
        for listed in left.values():
            yield Fault.of(WorkerLost("every process that reads it dies", file=listed.uri), listed.name, listed.uri)


def find_people(job: Job, segments: Iterable[Segment | Fault], workers: int) -> Iterator[Answer]:
    """Look at every segment, in actors that keep their networks; faults and videos with nothing to do pass."""
    aside: deque[Segment | Fault] = deque()

    def to_do() -> Iterator[Segment]:
        for found in segments:
            if isinstance(found, Segment) and found.missing:
                yield found
            else:
                aside.append(found)

    cpus, gpus = job.extraction.worker_cpus, job.extraction.worker_gpus
    actor = ray.remote(num_cpus=WORKER_SHARE * cpus, num_gpus=gpus, max_restarts=0, max_task_retries=0)(_PeopleWorker)
    pool: WorkerPool[Segment] = WorkerPool(
        start=lambda: actor.remote(job),
        wanted=lambda: _wanted(workers, cpus, gpus),
        attempts=job.extraction.attempts,
        timeout_s=job.extraction.segment_timeout_s,
    )
    with asked_for(workers, cpus, gpus):
        for done in pool.run(to_do()):
            while aside:
                yield aside.popleft()
            yield done and _answer(*done)
    yield from aside


def whole_videos(answers: Iterable[Answer], tell: Callable[[Answer], None]) -> Iterator[Segment | Fault | None]:
    """A segment of every video of which all have been looked at; faults pass."""
    missing: dict[str, int] = {}
    for answer in answers:
        tell(answer)
        if not isinstance(answer, tuple):
            yield answer
            continue
        segment = answer[0]
        missing[segment.name] = missing.get(segment.name, segment.missing) - 1
        if not missing[segment.name]:
            del missing[segment.name]
            yield segment


def join_videos(job: Job, videos: Iterable[Segment | Fault | None]) -> Generator[Joined | Fault, None, None]:
    """Join the segments of every video, on any node; faults pass. Detection never waits for it."""
    waiting: deque[Segment] = deque()
    joining: dict[ray.ObjectRef, Segment] = {}
    shared = ray.put(job)
    task = ray.remote(num_cpus=SMALL_CPUS, max_retries=3)(_join)

    def go_on(timeout_s: float) -> Iterator[Joined | Fault]:
        while waiting and len(joining) < _small_at_once():
            video = waiting.popleft()
            joining[task.remote(shared, video)] = video
        yield from _joined(joining, timeout_s)

    for found in videos:
        if isinstance(found, Fault):
            POSES_FAULTS.inc(1, {"slug": found.slug})
            yield found
        elif found is not None:
            waiting.append(found)
        else:
            yield from go_on(0)
    while waiting or joining:
        yield from go_on(LOOK_AGAIN_S)


def _small_at_once() -> int:
    """How many tasks read, and how many join: as many as there are cores."""
    return max(2, room_for(1, 0))


def _wanted(workers: int, cpus: float, gpus: float) -> int:
    """So many workers, but no more than fit now: others would take the cores that reading needs."""
    room = room_for(cpus, gpus)
    if not room:
        log.warning("no node has %g cores and %g GPUs for a worker; waiting for one", cpus, gpus)
    return max(1, min(workers or room, room))


def _answer(segment: Segment, answer: Looked | Fault | DancedistError) -> Answer:
    if isinstance(answer, DancedistError):
        return Fault.of(answer, segment.name, segment.uri, segment.start_frame, segment.stop_frame)
    return answer if isinstance(answer, Fault) else (segment, answer)


def _slices(videos: Sequence[Listed]) -> Iterator[list[Listed]]:
    some: list[Listed] = []
    for listed in videos:
        some.append(listed)
        if len(some) == SLICE_VIDEOS or sum(v.size_bytes for v in some) >= SLICE_BYTES:
            yield some
            some = []
    if some:
        yield some


def _read(job: Job, videos: Sequence[Listed], videos_a_task: int) -> Iterator[Segment | Fault]:
    # Small jobs spread too.
    videos_a_task = max(1, min(videos_a_task, len(videos) // (4 * _small_at_once())))
    tasks = -(-len(videos) // videos_a_task)
    # Not from_arrow: it asks a task of a whole core about the tables, and workers hold the cores.
    listed = ray.data.from_items([asdict(video) for video in videos], override_num_blocks=tasks)
    cut = listed.flat_map(_read_row, fn_kwargs={"job": job}, num_cpus=SMALL_CPUS, concurrency=_small_at_once())
    kinds = {"Segment": Segment, "Fault": Fault}
    for row in cut.iter_rows():
        yield kinds[row["kind"]](**json.loads(row["fields"]))


def _read_row(row: dict[str, Any], job: Job) -> list[dict[str, str]]:
    listed = Listed(**row)
    try:
        found: list[Segment] | Fault = read(job, listed)
    except Exception:
        # A bug that one video shows must not cost the others of its block.
        last = traceback.format_exc().strip()
        found = Fault.of(Unexpected("failed", file=listed.uri, got=last), listed.name, listed.uri)
    several = [found] if isinstance(found, Fault) else found
    return [{"kind": type(f).__name__, "fields": json.dumps(asdict(f))} for f in several]


class _PeopleWorker:
    """A process that keeps its networks from segment to segment."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._detector: Detector

    def ready(self) -> None:
        """Load the networks, and what speaks to the store."""
        logs.begin()
        open_storage(self._job.output)
        pose, means = self._job.pose, self._job.means
        settings = {"threads": self._job.extraction.worker_threads, "backend": means.backend}
        self._detector = self._job.detector(pose.model_copy(update=settings))
        if self._detector.means != means:
            raise WorkersUnfit("a worker would compute otherwise", expected=str(means), got=str(self._detector.means))

    def do(self, segment: Segment) -> Looked | Fault:
        """Look at one segment."""
        with logs.bound(video=segment.name):
            found = look(self._job, self._detector, segment)
        if isinstance(found, Looked):
            POSES_FRAMES.inc(segment.stop_frame - segment.start_frame)
            _count_seconds(decode=found.decode_s, detect=found.detect_s, write=found.write_s)
        return found


def _join(job: Job, segment: Segment) -> Joined | Fault:
    found = join(job, segment)
    if isinstance(found, Joined):
        _count_seconds(join=found.join_s)
    return found


def _count_seconds(**spent_s: float) -> None:
    for stage, seconds in spent_s.items():
        if seconds > 0:
            POSES_SECONDS.inc(seconds, {"stage": stage})


def _joined(joining: dict[ray.ObjectRef, Segment], timeout_s: float) -> Iterator[Joined | Fault]:
    if not joining:
        return
    done, _ = ray.wait([*joining], num_returns=len(joining), timeout=timeout_s)
    for ref in done:
        video = joining.pop(ref)
        try:
            found = ray.get(ref)
        except RayTaskError as error:
            found = Fault.of(Unexpected("failed", file=video.uri, got=str(error)), video.name, video.uri)
        except RayError as error:
            found = Fault.of(WorkerLost("every process that joins it dies", got=str(error)), video.name, video.uri)
        if isinstance(found, Fault):
            POSES_FAULTS.inc(1, {"slug": found.slug})
        yield found
