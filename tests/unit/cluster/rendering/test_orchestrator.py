from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from ray.exceptions import ActorDiedError

from cluster.core.error_records import Fault
from cluster.poses.segments import upload_poses
from cluster.rendering import orchestrator
from cluster.rendering.chunks import ChunkOrder, StoredChunk, carry_out, fetch_clip
from cluster.rendering.orchestrator import Failed, Plan, persistent, rendered
from cluster.storage.base import open_storage
from dancedist.bundle.bundle import Bundle
from dancedist.errors import FileInvalid
from dancedist.recipe import Recipe, VideoRecipe
from dancedist.render.clip import Clip
from dancedist.render.plan import Chunk
from dancedist.render.seam import SEAM_DB, Seam
from tests.unit.conftest import Counted, moving_poses
from tests.unit.dancedist.render.echo import echo

POSES = moving_poses(45)
ENCODING = VideoRecipe()


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(orchestrator, "FIRST_WAIT_S", 0.0)


class Workers:
    """Render in this process; the first `dying` of them die, and what they were asked for is known."""

    def __init__(self, bundle: Bundle, dying: int = 0) -> None:
        self.bundle, self.dying, self.asked = bundle, dying, list[ChunkOrder]()

    async def __call__(self, order: ChunkOrder) -> StoredChunk | Fault:
        self.asked.append(order)
        if len(self.asked) <= self.dying:
            raise ActorDiedError
        return carry_out(self.bundle, [order])[0]


def planned(folder: Path, warm_up: int) -> Plan:
    chunks = (Chunk(0, 15, tail=1), Chunk(15, 30, min(15, warm_up), 1), Chunk(30, 45, warm_up))
    upload_poses(open_storage(str(folder)), POSES, "danced.parquet")
    return Plan(ChunkOrder(str(folder), 0, chunks[0], ENCODING), chunks)


def made(
    plan: Plan, workers: Workers, folder: Path, known: dict[int, StoredChunk] | None = None
) -> list[tuple[StoredChunk, Clip, Seam | None]]:
    async def all_of_it() -> list[tuple[StoredChunk, Clip, Seam | None]]:
        return [part async for part in rendered(plan, POSES, known or {}, workers, folder)]

    return asyncio.run(all_of_it())


@pytest.fixture
def bundle(tmp_path: Path, tiny_recipe: Recipe) -> Bundle:
    """It forgets in a dozen frames."""
    return echo(tmp_path, tiny_recipe, 0.5)


def test_chunks_come_in_order_with_their_seams(bundle: Bundle, tmp_path: Path) -> None:
    workers = Workers(bundle)
    parts = made(planned(tmp_path / "place", 14), workers, tmp_path)
    made_of = [(s.start, s.stop, s.warm_up, s.faded) for s, _, _ in parts]
    assert made_of == [(0, 15, 0, False), (15, 30, 14, False), (30, 45, 14, False)]
    assert [seam and seam.frame for _, _, seam in parts] == [None, 15, 30]
    assert all(seam.psnr_db >= 50 and seam.change_db < seam.psnr_db for _, _, seam in parts if seam)
    assert len(workers.asked) == 3


def test_a_seam_that_shows_is_widened(bundle: Bundle, tmp_path: Path, counted: Counted) -> None:
    workers = Workers(bundle)
    parts = made(planned(tmp_path / "place", 4), workers, tmp_path)
    assert [(s.warm_up, s.faded) for s, _, _ in parts] == [(0, False), (8, False), (8, False)]
    assert all(seam.psnr_db >= SEAM_DB for _, _, seam in parts if seam)
    assert [(o.number, o.chunk.warm_up) for o in workers.asked] == [(0, 0), (1, 4), (2, 4), (1, 8), (2, 8)]
    assert counted["dancedist_renders_seams_widened", "warmed longer"] == [1, 1]
    assert counted["dancedist_renders_seam_db",] == [seam.psnr_db for _, _, seam in parts if seam]


def test_what_never_settles_is_faded_over_at_last(tmp_path: Path, tiny_recipe: Recipe, counted: Counted) -> None:
    workers = Workers(echo(tmp_path, tiny_recipe, 0.97))
    parts = made(planned(tmp_path / "place", 2), workers, tmp_path)
    assert [s.faded for s, _, _ in parts] == [False, True, True]
    assert [(o.number, o.chunk.warm_up, o.fade_from is not None) for o in workers.asked[3:]] == [
        (1, 4, False),
        (1, 4, True),
        (2, 4, False),
        (2, 4, True),
    ]
    seams = [seam for _, _, seam in parts if seam]
    assert all(seam.faded and not seam.shows for seam in seams)
    assert counted["dancedist_renders_seams_widened", "faded"] == [1, 1]
    assert all(seam.psnr_db > SEAM_DB for seam in seams)


def test_a_lost_worker_costs_time_alone(bundle: Bundle, tmp_path: Path, counted: Counted) -> None:
    workers = Workers(bundle, dying=4)
    parts = made(planned(tmp_path / "place", 14), workers, tmp_path)
    assert len(parts) == 3 and len(workers.asked) == 7
    assert counted["dancedist_renders_workers_lost",] == [1] * 4


def test_what_is_known_is_not_rendered_again(bundle: Bundle, tmp_path: Path) -> None:
    """Nor what another attempt stored and did not tell of: it is found where it lies."""
    plan = planned(tmp_path / "place", 4)
    first = made(plan, Workers(bundle), tmp_path)
    workers = Workers(bundle)
    known = {s.number: s for s, _, _ in first[:2]}
    again = made(plan, workers, tmp_path, known)
    assert [replace(s, seconds=0) for s, _, _ in again] == [replace(s, seconds=0) for s, _, _ in first]
    assert [o.number for o in workers.asked] == [2, 2]
    assert all(carry_out(bundle, [order])[0].seconds == 0 for order in workers.asked)


def test_the_first_of_two_that_render_a_chunk_counts(bundle: Bundle, tmp_path: Path) -> None:
    order = planned(tmp_path / "place", 4).of(1, Chunk(15, 30, 4, 1))
    first = carry_out(bundle, [order])[0]
    other = replace(order, encoding=VideoRecipe(crf=30))
    assert carry_out(bundle, [other])[0].sha256 == first.sha256
    (tmp_path / "place" / order.name).write_bytes(b"altered")
    with pytest.raises(FileInvalid, match="altered"):
        fetch_clip(order.place, first, tmp_path)


def test_orders_in_lockstep_become_what_each_becomes_alone(bundle: Bundle, tmp_path: Path) -> None:
    orders = [planned(tmp_path / f"place{i}", 4).of(1, Chunk(15, 30, 4, 1)) for i in range(3)]
    alone, *together = carry_out(bundle, orders[:1]) + carry_out(bundle, orders[1:])
    clips = [fetch_clip(o.place, s, tmp_path) for o, s in zip(orders, (alone, *together), strict=True)]
    assert all(np.abs(clip.last.astype(int) - clips[0].last).max() <= 1 for clip in clips)


def test_chunks_of_one_name_in_two_places_are_two(bundle: Bundle, tmp_path: Path) -> None:
    """Of one dance it is stored already, of the other it is not."""
    orders = [planned(tmp_path / f"place{i}", 4).of(1, Chunk(15, 30, 4, 1)) for i in range(2)]
    known = carry_out(bundle, [replace(orders[0], encoding=VideoRecipe(crf=40))])[0]
    both = carry_out(bundle, orders)
    assert both[0].sha256 == known.sha256 != both[1].sha256
    for order, stored in zip(orders, both, strict=True):
        fetch_clip(order.place, stored, tmp_path)


def test_what_is_the_users_is_not_tried_again_and_what_kills_everybody_is_given_up() -> None:
    asked: Counter[str] = Counter()

    async def refuses(order: str) -> Fault:
        asked[order] += 1
        return Fault(order, order, "file-invalid", "is no poses file")

    async def dies(order: str) -> Fault:
        asked[order] += 1
        raise ActorDiedError

    with pytest.raises(Failed, match="no poses file"):
        asyncio.run(persistent(refuses, "bad", "chunk 0"))
    with pytest.raises(Failed) as given_up:
        asyncio.run(persistent(dies, "deadly", "chunk 0"))
    assert given_up.value.fault.slug == "worker-lost"
    assert asked == {"bad": 1, "deadly": orchestrator.TRIES}
