"""How a dispatcher handles failed attempts, periodic tasks and its own health."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from cluster.core.error_records import ErrorRecord
from serving.db.leases import Leases
from serving.db.records import Records
from serving.workers.dispatcher import UNAVAILABLE_ATTEMPTS, Dispatcher, PeriodicTask
from tests.unit.serving.conftest import new_render

EXPIRED_S = -1.0


@pytest.mark.parametrize("slug", ["storage-unavailable", "registry-unavailable"])
def test_a_render_waits_for_unavailable_servers(records: Records, leases: Leases, slug: str) -> None:
    render_id = records.add(new_render(), 9, 9)[0].id
    states = []
    for attempt in range(1, UNAVAILABLE_ATTEMPTS + 1):
        acquired = leases.acquire(EXPIRED_S)
        assert acquired is not None and acquired[0].attempt == attempt
        cleared = _fail(leases, acquired[0], slug)
        states.append(records.get(render_id).state)  # type: ignore[union-attr]
        assert cleared == ([render_id] if attempt == UNAVAILABLE_ATTEMPTS else [])
    assert states == ["running"] * (UNAVAILABLE_ATTEMPTS - 1) + ["failed"]
    assert slug in str(records.get(render_id).problem)  # type: ignore[union-attr]


def test_an_error_in_the_source_fails_at_once(records: Records, leases: Leases) -> None:
    render_id = records.add(new_render(), 9, 9)[0].id
    acquired = leases.acquire(60.0)
    assert acquired is not None
    assert _fail(leases, acquired[0], "no-dancer") == [render_id]
    assert records.get(render_id).state == "failed"  # type: ignore[union-attr]


def test_a_task_is_repeated_at_once_while_it_returns_true(monkeypatch: pytest.MonkeyPatch) -> None:
    answers, waited, context = [True, True, False, False], list[float](), object()

    def run(argument: object) -> bool:
        assert argument is context
        return answers.pop(0)

    async def sleep(seconds: float) -> None:
        waited.append(seconds)
        if not answers:
            raise asyncio.CancelledError

    monkeypatch.setattr(asyncio, "sleep", sleep)
    dispatcher = Dispatcher.__new__(Dispatcher)
    dispatcher._context = context  # type: ignore[assignment]
    with pytest.raises(asyncio.CancelledError):
        asyncio.run(dispatcher._repeat(PeriodicTask("webhooks", run, 7.0)))
    assert waited == [7.0, 7.0]


def test_a_dispatcher_with_an_ended_task_is_unhealthy() -> None:
    def bug(_: object) -> bool:
        raise ValueError("a bug")

    async def checked() -> None:
        dispatcher = Dispatcher.__new__(Dispatcher)
        dispatcher._context = object()  # type: ignore[assignment]
        task = asyncio.ensure_future(dispatcher._repeat(PeriodicTask("retention", bug, 7.0)))
        dispatcher._loops = {"retention": task}
        dispatcher.check_health()
        await asyncio.wait([task])
        with pytest.raises(ValueError, match="a bug"):
            dispatcher.check_health()
        dispatcher._loops = {"readiness": asyncio.ensure_future(asyncio.sleep(0))}  # type: ignore[dict-item]
        await asyncio.wait(dispatcher._loops.values())
        with pytest.raises(RuntimeError, match="readiness"):
            dispatcher.check_health()

    asyncio.run(checked())


def _fail(leases: Leases, lease: Any, slug: str) -> list[str]:
    """Fail a lease in a dispatcher without Ray. Returns the renders whose previews were cleared."""
    cleared: list[str] = []

    async def record(render_id: str) -> None:
        cleared.append(render_id)

    dispatcher = Dispatcher.__new__(Dispatcher)
    dispatcher._context = SimpleNamespace(leases=leases, clear_previews=record)  # type: ignore[assignment]
    asyncio.run(dispatcher._fail(lease, ErrorRecord("dance", "dance.mp4", slug, "is away")))
    return cleared
