"""One attempt at a render, from the source to the published film; whatever an earlier one has stored is used."""

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
from cluster.core.error_records import Fault
from cluster.core.metrics import RENDERS_STAGE_SECONDS
from cluster.poses.inputs import Listed
from cluster.poses.segments import Job, Looked, Segment, upload_poses
from cluster.rendering.chunks import POSES, ChunkOrder, StoredChunk
from cluster.rendering.orchestrator import Plan, find_poses, rendered
from cluster.storage.base import Storage
from cluster.storage.download_cache import fetched
from dancedist.bundle.bundle import Bundle
from dancedist.bundle.provenance import film_metadata, sign_film
from dancedist.errors import Notice
from dancedist.pose.sequence import PoseSequence, read_poses
from dancedist.recipe import file_sha256
from dancedist.render.film import as_danced_by
from dancedist.render.join import join_chunks
from dancedist.render.plan import Chunk, plan
from dancedist.video.probe import probe
from serving.db.leases import Claim
from serving.db.models import RenderRow
from serving.workers import paths
from serving.workers.context import Studio

log = logging.getLogger("dancedist")
T = TypeVar("T")
_NAME = "source"


async def film(studio: Studio, claim: Claim, row: RenderRow) -> None:
    """Have it made and publish it. Raises Superseded, Failed, DancedistError, SQLAlchemyError."""
    made = await asyncio.to_thread(studio.records.result_of, row.fingerprint)
    if made is None:
        made = await _Take(studio, claim, row).film()
    await asyncio.to_thread(studio.claims.publish, claim, made)
    await studio.ended(row.id)


class _Take:
    """What one attempt works with."""

    def __init__(self, studio: Studio, claim: Claim, row: RenderRow) -> None:
        self._studio, self._claim, self._row = studio, claim, row
        self._settings = studio.settings
        self._store: Storage = paths.work(self._settings.storage, row.fingerprint)
        self._source = Listed(**row.request["source"])
        self._timings_s: dict[str, float] = {}
        self._notices: list[Notice] = []

    async def film(self) -> dict[str, Any]:
        """Poses, chunks, the film; what is to be published of it."""
        bundle = await asyncio.to_thread(self._studio.bundle, self._row.dancer["uri"])
        poses = await self._timed("poses", self._poses(bundle))
        with TemporaryDirectory(prefix="dancedist-") as scratch:
            parts = await self._timed("rendering", self._chunks(bundle, poses, Path(scratch)))
            return await self._timed("joining", asyncio.to_thread(self._join, bundle, poses, parts, Path(scratch)))

    async def _timed(self, stage: str, work: Awaitable[T]) -> T:
        began_s = time.monotonic()
        await self._note("stage", {"stage": stage}, stage=stage)
        done = await work
        spent_s = time.monotonic() - began_s
        RENDERS_STAGE_SECONDS.inc(spent_s, {"stage": stage})
        self._timings_s[stage] = round(spent_s, 2)
        await self._note(timings_s=dict(self._timings_s))
        return done

    async def _note(self, kind: str | None = None, data: dict[str, Any] | None = None, **columns: Any) -> None:
        await asyncio.to_thread(self._studio.claims.note, self._claim, kind, data, **columns)

    async def _poses(self, bundle: Bundle) -> PoseSequence:
        """The source's, in px of the target's frame, where the replicas find them."""
        recipe = bundle.dancer.recipe
        if await asyncio.to_thread(self._store.stat, POSES) is None:
            means = await asyncio.to_thread(self._studio.detector_means, recipe.pose)
            limits = self._settings.limits(recipe.video)
            job = Job(self._store.uri, limits, recipe.pose, recipe.extraction, means)

            async def look(segment: Segment) -> Looked | Fault:
                return await self._asked(self._studio.renderer.look.remote(job, segment, logs.ids()))

            async def tell(done: int, frames: int) -> None:
                await self._note(frames_done=done, frames_total=frames)

            await find_poses(job, self._source, look, tell)
            found = await asyncio.to_thread(self._read, f"poses/{_NAME}.parquet")
            danced = await asyncio.to_thread(as_danced_by, bundle, found)
            await asyncio.to_thread(upload_poses, self._store, danced, POSES)
        poses = await asyncio.to_thread(self._read, POSES)
        self._notices += poses.notices
        return poses

    async def _chunks(self, bundle: Bundle, poses: PoseSequence, scratch: Path) -> list[tuple[Path, int]]:
        """Every chunk's film as a file, with its frames."""
        planned, parts, done = await self._planned(bundle, len(poses)), list[tuple[Path, int]](), 0
        encoding = self._settings.limits(bundle.dancer.recipe.video)
        label = self._settings.label or bool(self._row.request["label"])
        order = ChunkOrder(self._store.uri, 0, planned[0], encoding, label=label)
        stored = await asyncio.to_thread(self._studio.records.chunks, self._row.id)
        known = {number: _chunk(kept) for number, kept in stored.items()}
        dancer = self._row.dancer["uri"]
        handle = self._studio.renderer.options(multiplexed_model_id=dancer)

        async def render(order: ChunkOrder) -> StoredChunk | Fault:
            return await self._asked(handle.render.remote(dancer, self._row.id, order, logs.ids()))

        async for chunk, clip, seam in rendered(Plan(order, planned), poses, known, render, scratch):
            path = scratch / f"{chunk.number}.mp4"
            await asyncio.to_thread(path.write_bytes, clip.film)
            parts.append((path, clip.frames))
            done += clip.frames
            with logs.bound(chunk=chunk.number):
                told_seam = "no seam" if seam is None else f"seam of {seam.psnr_db:.1f} dB"
                log.info("chunk %d: %d frames, %s", chunk.number, clip.frames, told_seam)
            told = {**asdict(chunk), "seam": None if seam is None else asdict(seam)}
            await asyncio.to_thread(self._studio.claims.note_chunk, self._claim, chunk.number, told)
            await self._note(frames_done=done)
        return parts

    async def _planned(self, bundle: Bundle, frames: int) -> tuple[Chunk, ...]:
        """As it was noted first: a plan is made once."""
        settling = bundle.dancer.settling_frames
        if settling is None:
            self._notices.append(Notice("one-chunk", "the dancer never settles: its film is rendered in one chunk"))
        if self._row.plan is None:
            self._row.plan = {"chunks": [asdict(chunk) for chunk in plan(frames, settling)]}
        await self._note("plan", self._row.plan, plan=self._row.plan, frames_done=0, frames_total=frames)
        return tuple(Chunk(**chunk) for chunk in self._row.plan["chunks"])

    async def _asked(self, response: Any) -> Any:
        return await asyncio.wait_for(response, self._settings.chunk_timeout_s)

    def _join(
        self, bundle: Bundle, poses: PoseSequence, parts: list[tuple[Path, int]], scratch: Path
    ) -> dict[str, Any]:
        recipe, path = bundle.dancer.recipe, scratch / "film.mp4"
        source = fetched(self._source.uri, self._source.size_bytes, self._source.etag, recipe.extraction.cache_gb)
        has_sound = probe(source, self._settings.limits(recipe.video)).audio_codec is not None
        marks = film_metadata(bundle.dancer)
        self._notices += join_chunks(path, parts, poses.fps, source if has_sound else None, marks)
        if (key := self._settings.signing_key) is not None:
            sign_film(path, bundle.dancer, key)
        # One's own: an attempt that was taken for dead may still write.
        name = f"film-{self._claim.token}.mp4"
        self._store.upload(path, name)
        return {"uri": f"{self._store.uri}/{name}", "film": _told(path, poses, self._notices)}

    def _read(self, name: str) -> PoseSequence:
        with TemporaryDirectory(prefix="dancedist-") as folder:
            self._store.download(name, Path(folder) / "poses.parquet")
            return read_poses(Path(folder) / "poses.parquet")


def _chunk(kept: dict[str, Any]) -> StoredChunk:
    return StoredChunk(**{name: value for name, value in kept.items() if name != "seam"})


def _told(path: Path, poses: PoseSequence, notices: list[Notice]) -> dict[str, Any]:
    frames, (width, height) = len(poses), poses.size
    return {
        "frames": frames, "width": width, "height": height, "fps": str(poses.fps),
        "duration_s": float(Fraction(frames) / poses.fps), "size_bytes": path.stat().st_size,
        "sha256": file_sha256(path), "notices": [str(notice) for notice in notices],
    }  # fmt: skip
