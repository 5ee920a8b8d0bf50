"""Render a film in chunks on many workers: fan-out with retries, then the seams in order."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from ray.exceptions import RayError
from ray.serve.exceptions import RayServeException

from cluster.core import logs
from cluster.core.error_records import ErrorRecord, WorkerLost
from cluster.core.metrics import RENDERS_SEAM_DB, RENDERS_SEAMS_WIDENED, RENDERS_WORKERS_LOST
from cluster.poses.inputs import ListedVideo
from cluster.poses.segments import DetectionResult, ExtractionJob, Segment, join_segments, split_video
from cluster.rendering.chunks import RenderTask, StoredChunk, fetch_clip
from dancedist.pose.sequence import PoseSequence
from dancedist.render.clip import Clip
from dancedist.render.plan import Chunk
from dancedist.render.seam import Seam, measure_seam

log = logging.getLogger("dancedist")
T = TypeVar("T")
U = TypeVar("U")

# Attempts per task; the pause before the second one, which doubles up to the maximum.
ATTEMPTS, MIN_BACKOFF_S, MAX_BACKOFF_S = 8, 0.25, 10.0
# Tasks of one film in flight: enough for many workers, without making the next film wait for the whole film.
MAX_IN_FLIGHT = 64


class RenderFailed(Exception):
    """Ends one render; `error` is shown to its user."""

    def __init__(self, error: ErrorRecord) -> None:
        super().__init__(error.message)
        self.error = error


async def with_retries(work: Callable[[T], Awaitable[U | ErrorRecord]], task: T, name: str) -> U:
    """Result of a worker; a lost task is sent again. Raises RenderFailed for an error record or too many losses."""
    wait_s, last_error = MIN_BACKOFF_S, ""
    for _ in range(ATTEMPTS):
        try:
            result = await work(task)
        except (RayError, RayServeException, TimeoutError) as error:
            RENDERS_WORKERS_LOST.inc()
            last_error = (str(error).strip().splitlines() or [""])[-1] or type(error).__name__
            log.warning("warning: %s: a worker was lost: %s", name, last_error)
            await asyncio.sleep(wait_s)
            wait_s = min(2 * wait_s, MAX_BACKOFF_S)
            continue
        if isinstance(result, ErrorRecord):
            raise RenderFailed(result)
        return result
    lost = WorkerLost(
        "lost its worker in every attempt", file=name, expected=f"at most {ATTEMPTS} attempts", got=last_error
    )
    raise RenderFailed(ErrorRecord.from_error(lost, name, name))


async def extract_source_poses(
    job: ExtractionJob,
    source: ListedVideo,
    detect: Callable[[Segment], Awaitable[DetectionResult | ErrorRecord]],
    on_progress: Callable[[int, int], Awaitable[None]],
) -> None:
    """Extract the source's poses into poses/NAME.parquet of the job's output, with its segments in parallel.

    `on_progress` is called with the number of frames done and of all frames. Raises RenderFailed.
    """
    segments = await asyncio.to_thread(split_video, job, source)
    if isinstance(segments, ErrorRecord):
        raise RenderFailed(segments)
    frames = segments[0].frames
    done = frames - sum(s.stop_frame - s.start_frame for s in segments)
    await on_progress(done, frames)
    slots = asyncio.Semaphore(MAX_IN_FLIGHT)

    async def detect_one(segment: Segment) -> int:
        async with slots:
            await with_retries(detect, segment, source.name)
        return segment.stop_frame - segment.start_frame

    tasks = [asyncio.create_task(detect_one(segment)) for segment in segments if segment.missing]
    try:
        for task in asyncio.as_completed(tasks):
            done += await task
            await on_progress(done, frames)
    finally:
        _cancel(tasks)
    joined = await asyncio.to_thread(join_segments, job, segments[0])
    if isinstance(joined, ErrorRecord):
        raise RenderFailed(joined)


@dataclass(frozen=True)
class RenderPlan:
    """How a film is rendered: its chunks, and a template of their tasks."""

    task: RenderTask
    chunks: tuple[Chunk, ...]

    def task_for(self, number: int, chunk: Chunk, fade_from: str | None = None) -> RenderTask:
        """Task of a chunk."""
        return replace(self.task, number=number, chunk=chunk, fade_from=fade_from)


async def render_chunks(
    plan: RenderPlan,
    poses: PoseSequence,
    known: Mapping[int, StoredChunk],
    render: Callable[[RenderTask], Awaitable[StoredChunk | ErrorRecord]],
    folder: Path,
) -> AsyncIterator[tuple[StoredChunk, Clip, Seam | None]]:
    """Yield every chunk in order, with the seam to the previous one; chunks in `known` are not rendered again.

    A chunk with a visible seam is rendered again with twice the warm-up, and finally with a fade from the previous
    chunk.
    Raises RenderFailed, FileInvalid, StorageMissing, StorageUnavailable.
    """
    slots = asyncio.Semaphore(MAX_IN_FLIGHT)

    async def render_one(task: RenderTask) -> StoredChunk:
        async with slots:
            with logs.bound(chunk=task.number):
                return await with_retries(render, task, f"chunk {task.number}")

    async def fetch(stored: StoredChunk) -> tuple[StoredChunk, Clip]:
        return stored, await asyncio.to_thread(fetch_clip, plan.task.storage_uri, stored, folder)

    todo = [plan.task_for(i, chunk) for i, chunk in enumerate(plan.chunks) if i not in known]
    pending = {task.number: asyncio.create_task(render_one(task)) for task in todo}
    try:
        before: tuple[StoredChunk, Clip] | None = None
        for i, chunk in enumerate(plan.chunks):
            now = await fetch(known[i] if i in known else await pending[i])
            seam = None if before is None else _seam(poses, before, now)
            while before is not None and seam is not None and seam.visible:
                wider = _rerender_task(plan, i, chunk, now[0], before[0])
                RENDERS_SEAMS_WIDENED.inc(1, {"how": "faded" if wider.fade_from else "warmed longer"})
                now = await fetch(await render_one(wider))
                seam = _seam(poses, before, now)
            if seam is not None:
                RENDERS_SEAM_DB.observe(seam.psnr_db)
            yield *now, seam
            before = now
    finally:
        _cancel(pending.values())


def _cancel(tasks: Iterable[asyncio.Task[Any]]) -> None:
    for task in tasks:
        task.cancel()


def _seam(poses: PoseSequence, before: tuple[StoredChunk, Clip], now: tuple[StoredChunk, Clip]) -> Seam:
    earlier, later = before[1], now[1]
    assert earlier.after is not None
    seam = measure_seam(poses, now[0].start, earlier.last, earlier.after, later.first)
    return replace(seam, faded=now[0].faded)


def _rerender_task(plan: RenderPlan, i: int, chunk: Chunk, stored: StoredChunk, before: StoredChunk) -> RenderTask:
    warmer = chunk.warmer()
    if stored.warm_up < warmer.warm_up:
        return plan.task_for(i, warmer)
    return plan.task_for(i, warmer, fade_from=before.name)
