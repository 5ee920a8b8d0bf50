"""Distributed extraction: videos -> PoseSequences and retarget statistics, on any number of nodes.

Videos are split on a fixed grid of frames that does not depend on the number of workers, and every step is a function
of its input alone: the result is identical, byte for byte, for any number of workers and after any crash.
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
from cluster.core.error_records import ErrorRecord, Unexpected, WorkerLost, WorkersUnfit
from cluster.core.metrics import POSES_FAULTS, POSES_FRAMES, POSES_SECONDS
from cluster.core.session import autoscaling_request, worker_capacity
from cluster.poses.inputs import ListedVideo
from cluster.poses.pool import WorkerPool
from cluster.poses.segments import (
    DetectionResult,
    Detector,
    ExtractionJob,
    JoinResult,
    Segment,
    detect_segment,
    join_segments,
    split_video,
)
from cluster.storage.open import open_storage
from dancedist.errors import DancedistError

log = logging.getLogger("dancedist")

# A segment that was processed, a video whose segments are all done, an error, or None: nothing new.
DetectionUpdate = tuple[Segment, DetectionResult] | Segment | ErrorRecord | None
# Splitting and joining wait for disks and networks: a worker leaves a tenth of its cores to them, enough for one task
# of each kind per core. More tasks at once would each start a process with seconds of imports.
WORKER_SHARE, LIGHT_TASK_CPUS = 0.9, 0.05
POLL_S = 0.1
# How far videos are split ahead of detection, and how many one task splits.
BATCH_BYTES, BATCH_VIDEOS, VIDEOS_PER_TASK = 16_000_000_000, 512, 8


def extract(
    job: ExtractionJob, videos: Sequence[ListedVideo], workers: int, on_update: Callable[[DetectionUpdate], None]
) -> Generator[JoinResult | ErrorRecord, None, None]:
    """Extract poses of all videos. Yields a result or error per video; `on_update` receives every segment's."""
    segments = split_videos(job, videos)
    people = detect_people(job, segments, workers)
    completed = completed_videos(people, on_update)
    return join_completed(job, completed)


def split_videos(job: ExtractionJob, videos: Sequence[ListedVideo]) -> Iterator[Segment | ErrorRecord]:
    """Probe and split every video, on all nodes. A video whose task dies twice becomes a WorkerLost record."""
    for batch in _batches(videos):
        pending = {listed.name: listed for listed in batch}
        for videos_per_task in (VIDEOS_PER_TASK, 1):
            for segment in _split(job, [*pending.values()], videos_per_task):
                pending.pop(segment.name, None)
                yield segment
            if not pending:
                break
        for listed in pending.values():
            yield ErrorRecord.from_error(
                WorkerLost("crashes every process that reads it", file=listed.uri), listed.name, listed.uri
            )


def detect_people(
    job: ExtractionJob, segments: Iterable[Segment | ErrorRecord], workers: int
) -> Iterator[DetectionUpdate]:
    """Detect people in every segment, in actors that keep their networks loaded.

    Errors and videos without missing segments pass through.
    """
    passing: deque[Segment | ErrorRecord] = deque()

    def missing_segments() -> Iterator[Segment]:
        for segment in segments:
            if isinstance(segment, Segment) and segment.missing:
                yield segment
            else:
                passing.append(segment)

    cpus, gpus = job.extraction.worker_cpus, job.extraction.worker_gpus
    actor = ray.remote(num_cpus=WORKER_SHARE * cpus, num_gpus=gpus, max_restarts=0, max_task_retries=0)(_PeopleWorker)
    pool: WorkerPool[Segment] = WorkerPool(
        start=lambda: actor.remote(job),
        pool_size=lambda: _pool_size(workers, cpus, gpus),
        attempts=job.extraction.attempts,
        timeout_s=job.extraction.segment_timeout_s,
    )
    with autoscaling_request(workers, cpus, gpus):
        for result in pool.run(missing_segments()):
            while passing:
                yield passing.popleft()
            yield result and _update_of(*result)
    yield from passing


def completed_videos(
    updates: Iterable[DetectionUpdate], on_update: Callable[[DetectionUpdate], None]
) -> Iterator[Segment | ErrorRecord | None]:
    """Yield one segment of each video whose segments are all processed; errors pass through."""
    missing: dict[str, int] = {}
    for update in updates:
        on_update(update)
        if not isinstance(update, tuple):
            yield update
            continue
        segment = update[0]
        missing[segment.name] = missing.get(segment.name, segment.missing) - 1
        if not missing[segment.name]:
            del missing[segment.name]
            yield segment


def join_completed(
    job: ExtractionJob, videos: Iterable[Segment | ErrorRecord | None]
) -> Generator[JoinResult | ErrorRecord, None, None]:
    """Join the segments of every video, on any node; errors pass through. Detection never waits for it."""
    waiting: deque[Segment] = deque()
    joining: dict[ray.ObjectRef, Segment] = {}
    shared = ray.put(job)
    task = ray.remote(num_cpus=LIGHT_TASK_CPUS, max_retries=3)(_join)

    def advance(timeout_s: float) -> Iterator[JoinResult | ErrorRecord]:
        while waiting and len(joining) < _max_light_tasks():
            segment = waiting.popleft()
            joining[task.remote(shared, segment)] = segment
        yield from _join_results(joining, timeout_s)

    for video in videos:
        if isinstance(video, ErrorRecord):
            POSES_FAULTS.inc(1, {"slug": video.slug})
            yield video
        elif video is not None:
            waiting.append(video)
        else:
            yield from advance(0)
    while waiting or joining:
        yield from advance(POLL_S)


def _max_light_tasks() -> int:
    """Maximum of splitting tasks, and of joining tasks: one per core."""
    return max(2, worker_capacity(1, 0))


def _pool_size(workers: int, cpus: float, gpus: float) -> int:
    """Number of workers: at most what fits now, or more actors would wait for the cores that splitting needs."""
    capacity = worker_capacity(cpus, gpus)
    if not capacity:
        log.warning("no node has %g cores and %g GPUs for a worker: waiting for one", cpus, gpus)
    return max(1, min(workers or capacity, capacity))


def _update_of(segment: Segment, update: DetectionResult | ErrorRecord | DancedistError) -> DetectionUpdate:
    if isinstance(update, DancedistError):
        return ErrorRecord.from_error(update, segment.name, segment.uri, segment.start_frame, segment.stop_frame)
    return update if isinstance(update, ErrorRecord) else (segment, update)


def _batches(videos: Sequence[ListedVideo]) -> Iterator[list[ListedVideo]]:
    batch: list[ListedVideo] = []
    for listed in videos:
        batch.append(listed)
        if len(batch) == BATCH_VIDEOS or sum(v.size_bytes for v in batch) >= BATCH_BYTES:
            yield batch
            batch = []
    if batch:
        yield batch


def _split(job: ExtractionJob, videos: Sequence[ListedVideo], videos_per_task: int) -> Iterator[Segment | ErrorRecord]:
    # Small jobs are spread over the nodes, too.
    videos_per_task = max(1, min(videos_per_task, len(videos) // (4 * _max_light_tasks())))
    tasks = -(-len(videos) // videos_per_task)
    # Not from_arrow: it starts a task that needs a whole core, and the workers occupy the cores.
    listed = ray.data.from_items([asdict(video) for video in videos], override_num_blocks=tasks)
    segments = listed.flat_map(
        _split_row, fn_kwargs={"job": job}, num_cpus=LIGHT_TASK_CPUS, concurrency=_max_light_tasks()
    )
    row_types = {"Segment": Segment, "ErrorRecord": ErrorRecord}
    for row in segments.iter_rows():
        yield row_types[row["kind"]](**json.loads(row["fields"]))


def _split_row(row: dict[str, Any], job: ExtractionJob) -> list[dict[str, str]]:
    listed = ListedVideo(**row)
    try:
        result: list[Segment] | ErrorRecord = split_video(job, listed)
    except Exception:
        # A bug that one video triggers must not fail the other videos of its block.
        trace = traceback.format_exc().strip()
        result = ErrorRecord.from_error(Unexpected("failed", file=listed.uri, got=trace), listed.name, listed.uri)
    results = [result] if isinstance(result, ErrorRecord) else result
    return [{"kind": type(one).__name__, "fields": json.dumps(asdict(one))} for one in results]


class _PeopleWorker:
    """Actor that loads its networks once and keeps them for all its segments."""

    def __init__(self, job: ExtractionJob) -> None:
        self._job = job
        self._detector: Detector

    def ready(self) -> None:
        """Load the networks and the storage client. Raises WorkersUnfit if inference differs from the job's."""
        logs.configure()
        open_storage(self._job.output)
        pose, spec = self._job.pose, self._job.spec
        settings = {"threads": self._job.extraction.worker_threads, "backend": spec.backend}
        self._detector = self._job.detector(pose.model_copy(update=settings))
        if self._detector.spec != spec:
            raise WorkersUnfit(
                "inference of a worker differs from the job's", expected=str(spec), got=str(self._detector.spec)
            )

    def do(self, segment: Segment) -> DetectionResult | ErrorRecord:
        """Detect people in one segment."""
        with logs.bound(video=segment.name):
            result = detect_segment(self._job, self._detector, segment)
        if isinstance(result, DetectionResult):
            POSES_FRAMES.inc(segment.stop_frame - segment.start_frame)
            _count_seconds(decode=result.decode_s, detect=result.detect_s, write=result.write_s)
        return result


def _join(job: ExtractionJob, segment: Segment) -> JoinResult | ErrorRecord:
    result = join_segments(job, segment)
    if isinstance(result, JoinResult):
        _count_seconds(join=result.join_s)
    return result


def _count_seconds(**spent_s: float) -> None:
    for stage, seconds in spent_s.items():
        if seconds > 0:
            POSES_SECONDS.inc(seconds, {"stage": stage})


def _join_results(joining: dict[ray.ObjectRef, Segment], timeout_s: float) -> Iterator[JoinResult | ErrorRecord]:
    if not joining:
        return
    done, _ = ray.wait([*joining], num_returns=len(joining), timeout=timeout_s)
    for ref in done:
        video = joining.pop(ref)
        try:
            result = ray.get(ref)
        except RayTaskError as error:
            result = ErrorRecord.from_error(Unexpected("failed", file=video.uri, got=str(error)), video.name, video.uri)
        except RayError as error:
            result = ErrorRecord.from_error(
                WorkerLost("crashes every process that joins it", got=str(error)), video.name, video.uri
            )
        if isinstance(result, ErrorRecord):
            POSES_FAULTS.inc(1, {"slug": result.slug})
        yield result
