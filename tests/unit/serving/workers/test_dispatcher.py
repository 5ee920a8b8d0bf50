"""What a director makes of an attempt that failed."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from cluster.core.error_records import Fault
from serving.db.leases import Claims
from serving.db.records import Records
from serving.workers.dispatcher import AWAY_ATTEMPTS, Director
from tests.unit.serving.conftest import asked

GONE_S = -1.0


@pytest.mark.parametrize("slug", ["storage-unavailable", "registry-unavailable"])
def test_a_render_waits_for_servers_that_are_away(records: Records, claims: Claims, slug: str) -> None:
    render_id = records.add(asked(), 9, 9)[0].id
    states = []
    for attempt in range(1, AWAY_ATTEMPTS + 1):
        claimed = claims.claim(GONE_S)
        assert claimed is not None and claimed[0].attempt == attempt
        ended = _fail(claims, claimed[0], slug)
        states.append(records.get(render_id).state)  # type: ignore[union-attr]
        assert ended == ([render_id] if attempt == AWAY_ATTEMPTS else [])
    assert states == ["running"] * (AWAY_ATTEMPTS - 1) + ["failed"]
    assert slug in str(records.get(render_id).problem)  # type: ignore[union-attr]


def test_what_is_the_films_own_fault_fails_at_once(records: Records, claims: Claims) -> None:
    render_id = records.add(asked(), 9, 9)[0].id
    claimed = claims.claim(60.0)
    assert claimed is not None
    assert _fail(claims, claimed[0], "no-dancer") == [render_id]
    assert records.get(render_id).state == "failed"  # type: ignore[union-attr]


def _fail(claims: Claims, claim: Any, slug: str) -> list[str]:
    """Of a director without Ray; the renders that have ended by it."""
    ended: list[str] = []

    async def note(render_id: str) -> None:
        ended.append(render_id)

    director = Director.__new__(Director)
    director._studio = SimpleNamespace(claims=claims, ended=note)  # type: ignore[assignment]
    asyncio.run(director._fail(claim, Fault("dance", "dance.mp4", slug, "is away")))
    return ended
