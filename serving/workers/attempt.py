"""One attempt at a render, from the source to the published film. It reuses what earlier attempts stored."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable
from dataclasses import asdict
from fractions import Fraction
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

from cluster.core import logs
from cluster.core.error_records import ErrorRecord
from cluster.core.metrics import RENDERS_STAGE_SECONDS
from cluster.poses.inputs import ListedVideo
from cluster.poses.segments import DetectionResult, ExtractionJob, Segment, upload_poses
from cluster.rendering.chunks import POSES, RenderTask, StoredChunk
from cluster.rendering.orchestrator import RenderPlan, extract_source_poses, render_chunks
from cluster.storage.base import Storage
from cluster.storage.download_cache import fetch_cached
from dancedist.bundle.bundle import Bundle
from dancedist.bundle.provenance import film_metadata, sign_film
from dancedist.errors import Notice
from dancedist.files import file_sha256
from dancedist.pose.sequence import PoseSequence, read_poses
from dancedist.render.film import as_danced_by
from dancedist.render.join import join_chunks
from dancedist.render.plan import Chunk, plan
from dancedist.video.probe import probe
from serving.db.leases import Lease
from serving.db.models import RenderRow
from serving.workers import paths
from serving.workers.context import WorkerContext

log = logging.getLogger("dancedist")
T = TypeVar("T")
_NAME = "source"


async def run_attempt(context: WorkerContext, lease: Lease, row: RenderRow) -> None:
    """Render the film unless its fingerprint has a result, and publish it.

    Raises LeaseLost, RenderFailed, DancedistError, SQLAlchemyError.
    """
    result = await asyncio.to_thread(context.records.result_of, row.fingerprint)
    if result is None:
        result = await _RenderAttempt(context, lease, row).run()
    await asyncio.to_thread(context.leases.publish, lease, result)
    await context.clear_previews(row.id)


class _RenderAttempt:
    """The state of one attempt."""

    def __init__(self, context: WorkerContext, lease: Lease, row: RenderRow) -> None:
        self._context, self._lease, self._row = context, lease, row
        self._settings = context.settings
        self._store: Storage = paths.work(self._settings.storage, row.fingerprint)
        self._source = ListedVideo(**row.request["source"])
        self._timings_s: dict[str, float] = {}
        self._notices: list[Notice] = []

    async def run(self) -> dict[str, Any]:
        """Extract poses, render chunks, join the film. Returns the result to publish."""
        bundle = await asyncio.to_thread(self._context.bundle, self._row.dancer["uri"])
        poses = await self._timed("poses", self._poses(bundle))
        with TemporaryDirectory(prefix="dancedist-") as scratch:
            parts = await self._timed("rendering", self._chunks(bundle, poses, Path(scratch)))
            return await self._timed("joining", asyncio.to_thread(self._join, bundle, poses, parts, Path(scratch)))

    async def _timed(self, stage: str, work: Awaitable[T]) -> T:
        started_s = time.monotonic()
        await self._update("stage", {"stage": stage}, stage=stage)
        result = await work
        spent_s = time.monotonic() - started_s
        RENDERS_STAGE_SECONDS.inc(spent_s, {"stage": stage})
        self._timings_s[stage] = round(spent_s, 2)
        await self._update(timings_s=dict(self._timings_s))
        return result

    async def _update(self, kind: str | None = None, data: dict[str, Any] | None = None, **columns: Any) -> None:
        await asyncio.to_thread(self._context.leases.update, self._lease, kind, data, **columns)

    async def _poses(self, bundle: Bundle) -> PoseSequence:
        """The source's poses, retargeted to px of the target's frame and stored where the replicas read them."""
        recipe = bundle.dancer.recipe
        if await asyncio.to_thread(self._store.stat, POSES) is None:
            inference_spec = await asyncio.to_thread(self._context.inference_spec_of, recipe.pose)
            limits = self._settings.limits(recipe.video)
            job = ExtractionJob(self._store.uri, limits, recipe.pose, recipe.extraction, inference_spec)

            async def detect(segment: Segment) -> DetectionResult | ErrorRecord:
                return await self._within_timeout(self._context.replicas.detect.remote(job, segment, logs.ids()))

            async def on_progress(done: int, frames: int) -> None:
                await self._update(frames_done=done, frames_total=frames)

            await extract_source_poses(job, self._source, detect, on_progress)
            source_poses = await asyncio.to_thread(self._read, f"poses/{_NAME}.parquet")
            retargeted = await asyncio.to_thread(as_danced_by, bundle, source_poses)
            await asyncio.to_thread(upload_poses, self._store, retargeted, POSES)
        poses = await asyncio.to_thread(self._read, POSES)
        self._notices += poses.notices
        return poses

    async def _chunks(self, bundle: Bundle, poses: PoseSequence, scratch: Path) -> list[tuple[Path, int]]:
        """Render all chunks. Returns each chunk's film file and its number of frames."""
        chunks, parts, done = await self._plan_chunks(bundle, len(poses)), list[tuple[Path, int]](), 0
        encoding = self._settings.limits(bundle.dancer.recipe.video)
        label = self._settings.label or bool(self._row.request["label"])
        task = RenderTask(self._store.uri, 0, chunks[0], encoding, label=label)
        rows = await asyncio.to_thread(self._context.records.chunks, self._row.id)
        stored_chunks = {number: _stored_chunk(fields) for number, fields in rows.items()}
        dancer = self._row.dancer["uri"]
        handle = self._context.replicas.options(multiplexed_model_id=dancer)

        async def render(task: RenderTask) -> StoredChunk | ErrorRecord:
            return await self._within_timeout(handle.render.remote(dancer, self._row.id, task, logs.ids()))

        async for chunk, clip, seam in render_chunks(RenderPlan(task, chunks), poses, stored_chunks, render, scratch):
            path = scratch / f"{chunk.number}.mp4"
            await asyncio.to_thread(path.write_bytes, clip.film)
            parts.append((path, clip.frames))
            done += clip.frames
            with logs.bound(chunk=chunk.number):
                seam_text = "no seam" if seam is None else f"seam of {seam.psnr_db:.1f} dB"
                log.info("chunk %d: %d frames, %s", chunk.number, clip.frames, seam_text)
            chunk_record = {**asdict(chunk), "seam": None if seam is None else asdict(seam)}
            await asyncio.to_thread(self._context.leases.save_chunk, self._lease, chunk.number, chunk_record)
            await self._update(frames_done=done)
        return parts

    async def _plan_chunks(self, bundle: Bundle, frames: int) -> tuple[Chunk, ...]:
        """The recorded plan; the first attempt makes it."""
        settling = bundle.dancer.settling_frames
        if settling is None:
            self._notices.append(Notice("one-chunk", "the dancer never settles: its film is rendered in one chunk"))
        if self._row.plan is None:
            self._row.plan = {"chunks": [asdict(chunk) for chunk in plan(frames, settling)]}
        await self._update("plan", self._row.plan, plan=self._row.plan, frames_done=0, frames_total=frames)
        return tuple(Chunk(**chunk) for chunk in self._row.plan["chunks"])

    async def _within_timeout(self, response: Any) -> Any:
        return await asyncio.wait_for(response, self._settings.chunk_timeout_s)

    def _join(
        self, bundle: Bundle, poses: PoseSequence, parts: list[tuple[Path, int]], scratch: Path
    ) -> dict[str, Any]:
        recipe, path = bundle.dancer.recipe, scratch / "film.mp4"
        source = fetch_cached(self._source.uri, self._source.size_bytes, self._source.etag, recipe.extraction.cache_gb)
        has_sound = probe(source, self._settings.limits(recipe.video)).audio_codec is not None
        marks = film_metadata(bundle.dancer)
        self._notices += join_chunks(path, parts, poses.fps, source if has_sound else None, marks)
        if (key := self._settings.signing_key) is not None:
            sign_film(path, bundle.dancer, key)
        # A name of its own: an attempt whose lease expired may still be writing.
        name = f"film-{self._lease.token}.mp4"
        self._store.upload(path, name)
        return {"uri": f"{self._store.uri}/{name}", "film": _film_record(path, poses, self._notices)}

    def _read(self, name: str) -> PoseSequence:
        with TemporaryDirectory(prefix="dancedist-") as folder:
            self._store.download(name, Path(folder) / "poses.parquet")
            return read_poses(Path(folder) / "poses.parquet")


def _stored_chunk(fields: dict[str, Any]) -> StoredChunk:
    return StoredChunk(**{name: value for name, value in fields.items() if name != "seam"})


def _film_record(path: Path, poses: PoseSequence, notices: list[Notice]) -> dict[str, Any]:
    frames, (width, height) = len(poses), poses.size
    return {
        "frames": frames, "width": width, "height": height, "fps": str(poses.fps),
        "duration_s": float(Fraction(frames) / poses.fps), "size_bytes": path.stat().st_size,
        "sha256": file_sha256(path), "notices": [str(notice) for notice in notices],
    }  # fmt: skip
