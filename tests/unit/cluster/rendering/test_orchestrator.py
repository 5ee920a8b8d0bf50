from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from ray.exceptions import ActorDiedError

from cluster.core.error_records import ErrorRecord
from cluster.poses.segments import upload_poses
from cluster.rendering import orchestrator
from cluster.rendering.chunks import RenderTask, StoredChunk, fetch_clip, render_tasks
from cluster.rendering.orchestrator import RenderFailed, RenderPlan, render_chunks, with_retries
from cluster.storage.open import open_storage
from dancedist.bundle.bundle import Bundle
from dancedist.errors import FileInvalid
from dancedist.recipe.schema import Recipe, VideoRecipe
from dancedist.render.clip import Clip
from dancedist.render.plan import Chunk
from dancedist.render.seam import SEAM_DB, Seam
from tests.unit.conftest import Counted, moving_poses
from tests.unit.dancedist.render.echo import echo

POSES = moving_poses(45)
ENCODING = VideoRecipe()


@pytest.fixture(autouse=True)
def no_backoff(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(orchestrator, "MIN_BACKOFF_S", 0.0)


class Workers:
    """Renders in this process and records the tasks; the first `dying` calls die."""

    def __init__(self, bundle: Bundle, dying: int = 0) -> None:
        self.bundle, self.dying, self.tasks = bundle, dying, list[RenderTask]()

    async def __call__(self, task: RenderTask) -> StoredChunk | ErrorRecord:
        self.tasks.append(task)
        if len(self.tasks) <= self.dying:
            raise ActorDiedError
        return render_tasks(self.bundle, [task])[0]


def make_plan(folder: Path, warm_up: int) -> RenderPlan:
    chunks = (Chunk(0, 15, tail=1), Chunk(15, 30, min(15, warm_up), 1), Chunk(30, 45, warm_up))
    upload_poses(open_storage(str(folder)), POSES, "danced.parquet")
    return RenderPlan(RenderTask(str(folder), 0, chunks[0], ENCODING), chunks)


def run(
    plan: RenderPlan, workers: Workers, folder: Path, known: dict[int, StoredChunk] | None = None
) -> list[tuple[StoredChunk, Clip, Seam | None]]:
    async def collect() -> list[tuple[StoredChunk, Clip, Seam | None]]:
        return [part async for part in render_chunks(plan, POSES, known or {}, workers, folder)]

    return asyncio.run(collect())


@pytest.fixture
def bundle(tmp_path: Path, tiny_recipe: Recipe) -> Bundle:
    """Its output settles within a dozen frames after a cold start."""
    return echo(tmp_path, tiny_recipe, 0.5)


def test_chunks_come_in_order_with_their_seams(bundle: Bundle, tmp_path: Path) -> None:
    workers = Workers(bundle)
    parts = run(make_plan(tmp_path / "storage", 14), workers, tmp_path)
    chunks = [(s.start, s.stop, s.warm_up, s.faded) for s, _, _ in parts]
    assert chunks == [(0, 15, 0, False), (15, 30, 14, False), (30, 45, 14, False)]
    assert [seam and seam.frame for _, _, seam in parts] == [None, 15, 30]
    assert all(seam.psnr_db >= 50 and seam.change_db < seam.psnr_db for _, _, seam in parts if seam)
    assert len(workers.tasks) == 3


def test_a_visible_seam_is_rendered_again_with_a_longer_warm_up(
    bundle: Bundle, tmp_path: Path, counted: Counted
) -> None:
    workers = Workers(bundle)
    parts = run(make_plan(tmp_path / "storage", 4), workers, tmp_path)
    assert [(s.warm_up, s.faded) for s, _, _ in parts] == [(0, False), (8, False), (8, False)]
    assert all(seam.psnr_db >= SEAM_DB for _, _, seam in parts if seam)
    assert [(o.number, o.chunk.warm_up) for o in workers.tasks] == [(0, 0), (1, 4), (2, 4), (1, 8), (2, 8)]
    assert counted["dancedist_renders_seams_widened", "warmed longer"] == [1, 1]
    assert counted["dancedist_renders_seam_db",] == [seam.psnr_db for _, _, seam in parts if seam]


def test_a_seam_that_stays_visible_is_faded(tmp_path: Path, tiny_recipe: Recipe, counted: Counted) -> None:
    workers = Workers(echo(tmp_path, tiny_recipe, 0.97))
    parts = run(make_plan(tmp_path / "storage", 2), workers, tmp_path)
    assert [s.faded for s, _, _ in parts] == [False, True, True]
    assert [(o.number, o.chunk.warm_up, o.fade_from is not None) for o in workers.tasks[3:]] == [
        (1, 4, False),
        (1, 4, True),
        (2, 4, False),
        (2, 4, True),
    ]
    seams = [seam for _, _, seam in parts if seam]
    assert all(seam.faded and not seam.visible for seam in seams)
    assert counted["dancedist_renders_seams_widened", "faded"] == [1, 1]
    assert all(seam.psnr_db > SEAM_DB for seam in seams)


def test_tasks_of_lost_workers_are_retried(bundle: Bundle, tmp_path: Path, counted: Counted) -> None:
    workers = Workers(bundle, dying=4)
    parts = run(make_plan(tmp_path / "storage", 14), workers, tmp_path)
    assert len(parts) == 3 and len(workers.tasks) == 7
    assert counted["dancedist_renders_workers_lost",] == [1] * 4


def test_known_and_stored_chunks_are_not_rendered_again(bundle: Bundle, tmp_path: Path) -> None:
    """Chunks that another attempt stored without recording them are found in the storage."""
    plan = make_plan(tmp_path / "storage", 4)
    first = run(plan, Workers(bundle), tmp_path)
    workers = Workers(bundle)
    known = {s.number: s for s, _, _ in first[:2]}
    again = run(plan, workers, tmp_path, known)
    assert [replace(s, seconds=0) for s, _, _ in again] == [replace(s, seconds=0) for s, _, _ in first]
    assert [o.number for o in workers.tasks] == [2, 2]
    assert all(render_tasks(bundle, [task])[0].seconds == 0 for task in workers.tasks)


def test_the_first_stored_version_of_a_chunk_counts(bundle: Bundle, tmp_path: Path) -> None:
    task = make_plan(tmp_path / "storage", 4).task_for(1, Chunk(15, 30, 4, 1))
    first = render_tasks(bundle, [task])[0]
    other = replace(task, encoding=VideoRecipe(crf=30))
    assert render_tasks(bundle, [other])[0].sha256 == first.sha256
    (tmp_path / "storage" / task.name).write_bytes(b"altered")
    with pytest.raises(FileInvalid, match="does not match its checksum"):
        fetch_clip(task.storage_uri, first, tmp_path)


def test_a_batch_gives_the_same_chunks_as_single_tasks(bundle: Bundle, tmp_path: Path) -> None:
    tasks = [make_plan(tmp_path / f"storage{i}", 4).task_for(1, Chunk(15, 30, 4, 1)) for i in range(3)]
    alone, *together = render_tasks(bundle, tasks[:1]) + render_tasks(bundle, tasks[1:])
    clips = [fetch_clip(o.storage_uri, s, tmp_path) for o, s in zip(tasks, (alone, *together), strict=True)]
    assert all(np.abs(clip.last.astype(int) - clips[0].last).max() <= 1 for clip in clips)


def test_chunks_of_one_name_in_two_storages_are_distinct(bundle: Bundle, tmp_path: Path) -> None:
    """The chunk of the first dance is stored already, that of the second is not."""
    tasks = [make_plan(tmp_path / f"storage{i}", 4).task_for(1, Chunk(15, 30, 4, 1)) for i in range(2)]
    known = render_tasks(bundle, [replace(tasks[0], encoding=VideoRecipe(crf=40))])[0]
    both = render_tasks(bundle, tasks)
    assert both[0].sha256 == known.sha256 != both[1].sha256
    for task, stored in zip(tasks, both, strict=True):
        fetch_clip(task.storage_uri, stored, tmp_path)


def test_user_errors_are_not_retried_and_crashing_tasks_are_given_up() -> None:
    attempts: Counter[str] = Counter()

    async def refuses(task: str) -> ErrorRecord:
        attempts[task] += 1
        return ErrorRecord(task, task, "file-invalid", "is not a poses file")

    async def dies(task: str) -> ErrorRecord:
        attempts[task] += 1
        raise ActorDiedError

    with pytest.raises(RenderFailed, match="not a poses file"):
        asyncio.run(with_retries(refuses, "bad", "chunk 0"))
    with pytest.raises(RenderFailed) as given_up:
        asyncio.run(with_retries(dies, "deadly", "chunk 0"))
    assert given_up.value.error.slug == "worker-lost"
    assert attempts == {"bad": 1, "deadly": orchestrator.ATTEMPTS}
