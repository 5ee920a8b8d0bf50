"""A film in chunks over many workers: fan-out with retries, and the seams from left to right."""

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
from cluster.core.error_records import Fault, WorkerLost
from cluster.core.metrics import RENDERS_SEAM_DB, RENDERS_SEAMS_WIDENED, RENDERS_WORKERS_LOST
from cluster.poses.inputs import Listed
from cluster.poses.segments import Job, Looked, Segment, join, read
from cluster.rendering.chunks import ChunkOrder, StoredChunk, fetch_clip
from dancedist.pose.sequence import PoseSequence
from dancedist.render.clip import Clip
from dancedist.render.plan import Chunk
from dancedist.render.seam import Seam, measure_seam

log = logging.getLogger("dancedist")
T = TypeVar("T")
U = TypeVar("U")

# Each is tried so often before it is given up, with this wait before the second try, twice as long before the next.
TRIES, FIRST_WAIT_S, LONGEST_WAIT_S = 8, 0.25, 10.0
# So many orders of one film wait at workers: enough for many of them, and the next film need not wait for all of it.
AT_ONCE = 64


class Failed(Exception):
    """What ends one render; `fault` says what it is to its user."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(fault.message)
        self.fault = fault


async def persistent(work: Callable[[T], Awaitable[U | Fault]], order: T, name: str) -> U:
    """What a worker answers; where the worker is lost, another is asked. Raises Failed."""
    wait_s, last = FIRST_WAIT_S, ""
    for _ in range(TRIES):
        try:
            answer = await work(order)
        except (RayError, RayServeException, TimeoutError) as error:
            RENDERS_WORKERS_LOST.inc()
            last = (str(error).strip().splitlines() or [""])[-1] or type(error).__name__
            log.warning("warning: %s: a worker was lost: %s", name, last)
            await asyncio.sleep(wait_s)
            wait_s = min(2 * wait_s, LONGEST_WAIT_S)
            continue
        if isinstance(answer, Fault):
            raise Failed(answer)
        return answer
    fault = WorkerLost("every worker that takes it is lost", file=name, expected=f"{TRIES} tries at most", got=last)
    raise Failed(Fault.of(fault, name, name))


async def find_poses(
    job: Job,
    source: Listed,
    look: Callable[[Segment], Awaitable[Looked | Fault]],
    tell: Callable[[int, int], Awaitable[None]],
) -> None:
    """Poses of the source's dancer into poses/NAME.parquet of the job's output, its segments looked at in parallel.

    `tell` hears of the frames done, and of all. Raises Failed.
    """
    segments = await asyncio.to_thread(read, job, source)
    if isinstance(segments, Fault):
        raise Failed(segments)
    frames = segments[0].frames
    done = frames - sum(s.stop_frame - s.start_frame for s in segments)
    await tell(done, frames)
    room = asyncio.Semaphore(AT_ONCE)

    async def looked_at(segment: Segment) -> int:
        async with room:
            await persistent(look, segment, source.name)
        return segment.stop_frame - segment.start_frame

    tasks = [asyncio.create_task(looked_at(segment)) for segment in segments if segment.missing]
    try:
        for task in asyncio.as_completed(tasks):
            done += await task
            await tell(done, frames)
    finally:
        _cancel(tasks)
    joined = await asyncio.to_thread(join, job, segments[0])
    if isinstance(joined, Fault):
        raise Failed(joined)


@dataclass(frozen=True)
class Plan:
    """How a film is rendered, told once: its chunks, and what all orders have in common."""

    order: ChunkOrder
    chunks: tuple[Chunk, ...]

    def of(self, number: int, chunk: Chunk, fade_from: str | None = None) -> ChunkOrder:
        """The order of a chunk."""
        return replace(self.order, number=number, chunk=chunk, fade_from=fade_from)


async def rendered(
    plan: Plan,
    poses: PoseSequence,
    known: Mapping[int, StoredChunk],
    render: Callable[[ChunkOrder], Awaitable[StoredChunk | Fault]],
    folder: Path,
) -> AsyncIterator[tuple[StoredChunk, Clip, Seam | None]]:
    """Every chunk in order, with the seam to the one before it; those that are `known` are not rendered again.

    A chunk whose seam shows is rendered again with twice the warm-up, and at last faded over from the one before it.
    Raises Failed, FileInvalid, StorageMissing, StorageUnavailable.
    """
    room = asyncio.Semaphore(AT_ONCE)

    async def one(order: ChunkOrder) -> StoredChunk:
        async with room:
            with logs.bound(chunk=order.number):
                return await persistent(render, order, f"chunk {order.number}")

    async def fetched(stored: StoredChunk) -> tuple[StoredChunk, Clip]:
        return stored, await asyncio.to_thread(fetch_clip, plan.order.place, stored, folder)

    orders = [plan.of(i, chunk) for i, chunk in enumerate(plan.chunks) if i not in known]
    tasks = {order.number: asyncio.create_task(one(order)) for order in orders}
    try:
        before: tuple[StoredChunk, Clip] | None = None
        for i, chunk in enumerate(plan.chunks):
            now = await fetched(known[i] if i in known else await tasks[i])
            seam = None if before is None else _seam(poses, before, now)
            while before is not None and seam is not None and seam.shows:
                better = _better(plan, i, chunk, now[0], before[0])
                RENDERS_SEAMS_WIDENED.inc(1, {"how": "faded" if better.fade_from else "warmed longer"})
                now = await fetched(await one(better))
                seam = _seam(poses, before, now)
            if seam is not None:
                RENDERS_SEAM_DB.observe(seam.psnr_db)
            yield *now, seam
            before = now
    finally:
        _cancel(tasks.values())


def _cancel(tasks: Iterable[asyncio.Task[Any]]) -> None:
    for task in tasks:
        task.cancel()


def _seam(poses: PoseSequence, before: tuple[StoredChunk, Clip], now: tuple[StoredChunk, Clip]) -> Seam:
    earlier, later = before[1], now[1]
    assert earlier.after is not None
    seam = measure_seam(poses, now[0].start, earlier.last, earlier.after, later.first)
    return replace(seam, faded=now[0].faded)


def _better(plan: Plan, i: int, chunk: Chunk, stored: StoredChunk, before: StoredChunk) -> ChunkOrder:
    warmer = chunk.warmer()
    if stored.warm_up < warmer.warm_up:
        return plan.of(i, warmer)
    return plan.of(i, warmer, fade_from=before.name)
