"""Replica: detects people, renders chunks, and caches dancers."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory

import cv2
import torch
from ray import serve

from cluster.core import logs
from cluster.core.error_records import ErrorRecord, OutOfMemory
from cluster.core.metrics import RENDERS_CHUNK_SECONDS, RENDERS_FRAMES
from cluster.core.session import alive_nodes
from cluster.poses.segments import DetectionResult, ExtractionJob, Segment, detect_segment
from cluster.rendering.chunks import RenderTask, StoredChunk, render_tasks
from cluster.tracking.registry import fetch_dancer
from dancedist.arrays import Rgb
from dancedist.bundle.bundle import Bundle, load_bundle
from dancedist.errors import DancedistError
from dancedist.pose.detect import PeopleDetector
from serving.db.engine import Database
from serving.settings import Settings
from serving.workers.previews import Previews

log = logging.getLogger("dancedist")
# Dancers that one replica keeps in memory.
MAX_DANCERS = 4
# Chunks that arrive within this time are rendered as one batch.
BATCH_WAIT_S = 0.05


class RenderReplica:
    """Serve deployment that does the work.

    Its methods return an ErrorRecord for errors that the user must fix; if they raise, the work is retried on another
    replica.
    """

    def __init__(self, settings: Settings) -> None:
        logs.configure()
        settings.require_shared(alive_nodes())
        threads = max(1, int(settings.replica_cpus))
        torch.set_num_threads(threads)
        cv2.setNumThreads(threads)
        self._storage = settings.storage
        self._device = torch.device("cuda" if settings.replica_gpus else "cpu")
        if 0 < settings.replica_gpus < 1:
            torch.cuda.set_per_process_memory_fraction(settings.replica_gpus)
        self._previews = Previews(Database(settings.database))
        self._detector = lru_cache(maxsize=2)(lambda pose: PeopleDetector(pose.model_copy(update={"threads": threads})))
        self._detector_lock = asyncio.Lock()
        self._render.set_max_batch_size(settings.render_batch)

    async def detect(self, job: ExtractionJob, segment: Segment, ids: logs.Ids) -> DetectionResult | ErrorRecord:
        """Detect everybody in a segment of a source; one segment at a time, because a detector has one stream."""
        async with self._detector_lock:
            with logs.bound(**ids):
                return await asyncio.to_thread(lambda: detect_segment(job, self._detector(job.pose), segment))

    async def render(self, dancer: str, render_id: str, task: RenderTask, ids: logs.Ids) -> StoredChunk | ErrorRecord:
        """Render a chunk with a version of a dancer, batched with others of the same version; `ids` are for the log."""
        result = await self._render(dancer, render_id, task)
        # Log each result with its own ids, which a batch does not have.
        with logs.bound(**ids):
            _log_result(result)
        return result

    @serve.batch(max_batch_size=1, batch_wait_timeout_s=BATCH_WAIT_S)
    async def _render(
        self, dancers: list[str], render_ids: list[str], tasks: list[RenderTask]
    ) -> list[StoredChunk | ErrorRecord]:
        results: dict[int, StoredChunk | ErrorRecord] = {}
        for dancer in dict.fromkeys(dancers):
            numbers = [i for i, other in enumerate(dancers) if other == dancer]
            batch = await self._render_batch(dancer, [render_ids[i] for i in numbers], [tasks[i] for i in numbers])
            results.update(zip(numbers, batch, strict=True))
        return [results[i] for i in range(len(tasks))]

    async def _render_batch(
        self, dancer: str, render_ids: Sequence[str], tasks: Sequence[RenderTask]
    ) -> Sequence[StoredChunk | ErrorRecord]:
        try:
            bundle = await self.dancer(dancer)
            return await asyncio.to_thread(render_tasks, bundle, tasks, self._on_frame(render_ids, tasks))
        except DancedistError as error:
            return [ErrorRecord.from_error(error, dancer, task.storage_uri) for task in tasks]
        except torch.OutOfMemoryError as error:
            if len(tasks) > 1:
                return [
                    (await self._render_batch(dancer, [i], [task]))[0]
                    for i, task in zip(render_ids, tasks, strict=True)
                ]
            out_of_memory = OutOfMemory("rendering ran out of memory", file=dancer, got=str(error).splitlines()[0])
            return [ErrorRecord.from_error(out_of_memory, dancer, task.storage_uri) for task in tasks]

    @serve.multiplexed(max_num_models_per_replica=MAX_DANCERS)
    async def dancer(self, uri: str) -> Bundle:
        """Load a version of a dancer, with its generators on this replica's device."""
        return await asyncio.to_thread(self._load_dancer, uri)

    def _load_dancer(self, uri: str) -> Bundle:
        with TemporaryDirectory(prefix="dancedist-") as folder:
            bundle = load_bundle(fetch_dancer(uri, Path(folder) / "dancer", self._storage))
        bundle.generator.to(self._device)
        if bundle.face is not None:
            bundle.face.to(self._device)
        return bundle

    def _on_frame(
        self, render_ids: Sequence[str], tasks: Sequence[RenderTask]
    ) -> Callable[[RenderTask, int, Rgb], None]:
        ids = {(task.storage_uri, task.number): render_id for render_id, task in zip(render_ids, tasks, strict=True)}
        return lambda task, frame, picture: self._previews.show(
            ids[task.storage_uri, task.number], task.number, frame, picture
        )


def _log_result(result: StoredChunk | ErrorRecord) -> None:
    """Count and log the result of a task."""
    if isinstance(result, ErrorRecord):
        log.warning("warning: %s [%s]", result.message, result.slug)
        return
    frames = result.stop - result.start
    log.info("chunk %d: %d frames in %.1f s", result.number, frames, result.seconds)
    # A chunk that was stored already took no time.
    if result.seconds > 0:
        RENDERS_FRAMES.inc(frames)
        RENDERS_CHUNK_SECONDS.observe(result.seconds)
