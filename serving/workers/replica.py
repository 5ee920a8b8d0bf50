"""A replica: it finds people and renders chunks, and keeps the dancers that it was asked for."""

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
from cluster.core.error_records import Fault, OutOfMemory
from cluster.core.metrics import RENDERS_CHUNK_SECONDS, RENDERS_FRAMES
from cluster.core.session import alive_nodes
from cluster.poses.segments import Job, Looked, Segment, look
from cluster.rendering.chunks import ChunkOrder, StoredChunk, carry_out
from cluster.tracking.registry import fetch_dancer
from dancedist.bundle.bundle import Bundle, load_bundle
from dancedist.errors import DancedistError
from dancedist.pose.detect import PeopleDetector
from dancedist.render.clip import Rgb
from serving.db.engine import Database
from serving.settings import Settings
from serving.workers.previews import Frames

log = logging.getLogger("dancedist")
# Dancers that one replica keeps.
DANCERS = 4
# A chunk that comes so shortly after another is rendered with it.
WAIT_FOR_OTHERS_S = 0.05


class Renderer:
    """Its methods answer with a Fault for what is the user's to mend; what they raise is tried elsewhere."""

    def __init__(self, settings: Settings) -> None:
        logs.begin()
        settings.require_shared(alive_nodes())
        threads = max(1, int(settings.replica_cpus))
        torch.set_num_threads(threads)
        cv2.setNumThreads(threads)
        self._storage = settings.storage
        self._device = torch.device("cuda" if settings.replica_gpus else "cpu")
        if 0 < settings.replica_gpus < 1:
            torch.cuda.set_per_process_memory_fraction(settings.replica_gpus)
        self._frames = Frames(Database(settings.database))
        self._detector = lru_cache(maxsize=2)(lambda pose: PeopleDetector(pose.model_copy(update={"threads": threads})))
        self._looking = asyncio.Lock()
        self._render.set_max_batch_size(settings.lockstep)

    async def look(self, job: Job, segment: Segment, ids: logs.Ids) -> Looked | Fault:
        """Find everybody in a segment of a source, one after another: a detector has one stream."""
        async with self._looking:
            with logs.bound(**ids):
                return await asyncio.to_thread(lambda: look(job, self._detector(job.pose), segment))

    async def render(self, dancer: str, render_id: str, order: ChunkOrder, ids: logs.Ids) -> StoredChunk | Fault:
        """Render a chunk with a version of a dancer, beside others of the same; `ids` are for the log."""
        answer = await self._render(dancer, render_id, order)
        # Each by itself: what is rendered in lockstep is logged for no one of them.
        with logs.bound(**ids):
            _told(answer)
        return answer

    @serve.batch(max_batch_size=1, batch_wait_timeout_s=WAIT_FOR_OTHERS_S)
    async def _render(
        self, dancers: list[str], render_ids: list[str], orders: list[ChunkOrder]
    ) -> list[StoredChunk | Fault]:
        answers: dict[int, StoredChunk | Fault] = {}
        for dancer in dict.fromkeys(dancers):
            numbers = [i for i, other in enumerate(dancers) if other == dancer]
            found = await self._together(dancer, [render_ids[i] for i in numbers], [orders[i] for i in numbers])
            answers.update(zip(numbers, found, strict=True))
        return [answers[i] for i in range(len(orders))]

    async def _together(
        self, dancer: str, render_ids: Sequence[str], orders: Sequence[ChunkOrder]
    ) -> Sequence[StoredChunk | Fault]:
        try:
            bundle = await self.dancer(dancer)
            return await asyncio.to_thread(carry_out, bundle, orders, self._watch(render_ids, orders))
        except DancedistError as error:
            return [Fault.of(error, dancer, order.place) for order in orders]
        except torch.OutOfMemoryError as error:
            if len(orders) > 1:
                return [(await self._together(dancer, [i], [o]))[0] for i, o in zip(render_ids, orders, strict=True)]
            full = OutOfMemory("rendering needs more memory", file=dancer, got=str(error).splitlines()[0])
            return [Fault.of(full, dancer, order.place) for order in orders]

    @serve.multiplexed(max_num_models_per_replica=DANCERS)
    async def dancer(self, uri: str) -> Bundle:
        """Its generators, on this replica's device."""
        return await asyncio.to_thread(self._loaded, uri)

    def _loaded(self, uri: str) -> Bundle:
        with TemporaryDirectory(prefix="dancedist-") as folder:
            bundle = load_bundle(fetch_dancer(uri, Path(folder) / "dancer", self._storage))
        bundle.generator.to(self._device)
        if bundle.face is not None:
            bundle.face.to(self._device)
        return bundle

    def _watch(self, render_ids: Sequence[str], orders: Sequence[ChunkOrder]) -> Callable[[ChunkOrder, int, Rgb], None]:
        ids = {(order.place, order.number): render_id for render_id, order in zip(render_ids, orders, strict=True)}
        return lambda order, frame, picture: self._frames.show(
            ids[order.place, order.number], order.number, frame, picture
        )


def _told(answer: StoredChunk | Fault) -> None:
    """Count and log what became of an order."""
    if isinstance(answer, Fault):
        log.warning("warning: %s [%s]", answer.message, answer.slug)
        return
    frames = answer.stop - answer.start
    log.info("chunk %d: %d frames in %.1f s", answer.number, frames, answer.seconds)
    # What was found took no time.
    if answer.seconds > 0:
        RENDERS_FRAMES.inc(frames)
        RENDERS_CHUNK_SECONDS.observe(answer.seconds)
