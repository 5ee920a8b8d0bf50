from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from serving.db.engine import Database, now_s
from serving.db.leases import LeaseLost, Leases
from serving.db.records import QueueFull, Records, RequestDiffers, TooManyRenders
from tests.unit.serving.conftest import new_render

LIMITS = (1000, 1000)
LONG_S, EXPIRED_S = 60.0, -1.0


def test_the_databases_clock_advances(database: Database) -> None:
    with database.reading() as session:
        assert abs(now_s(session) - time.time()) < 5
        first = now_s(session)
        time.sleep(0.05)
        assert 0.02 < now_s(session) - first < 5


def test_the_same_idempotency_key_is_one_render(records: Records) -> None:
    first, new = records.add(new_render(idempotency_key="k"), *LIMITS)
    assert new and first.state == "queued"
    same, new = records.add(new_render(idempotency_key="k"), *LIMITS)
    assert not new and same.id == first.id
    assert records.add(new_render("bob", idempotency_key="k"), *LIMITS)[0].id != first.id
    assert records.add(new_render(), *LIMITS)[0].id != records.add(new_render(), *LIMITS)[0].id
    with pytest.raises(RequestDiffers):
        records.add(new_render(idempotency_key="k", request_sha256="other"), *LIMITS)


def test_concurrent_requests_respect_key_and_limit(database_url: str) -> None:
    """Each request has connections of its own, as separate processes have."""

    def add(i: int) -> str:
        database = Database(database_url)
        try:
            return Records(database).add(new_render(idempotency_key="k" if i % 2 else None), 9, 100)[0].id
        except QueueFull:
            return "full"
        finally:
            database.close()

    with ThreadPoolExecutor(8) as pool:
        ids = [*pool.map(add, range(32))]
    database = Database(database_url)
    assert Records(database).count("queued") == 9
    assert len({*ids[1::2]} - {"full"}) <= 1
    assert len({*ids} - {"full"}) == 9
    database.close()


def test_the_queue_and_a_keys_renders_are_bounded(records: Records, leases: Leases) -> None:
    for _ in range(2):
        records.add(new_render("ann"), 3, 2)
    with pytest.raises(TooManyRenders):
        records.add(new_render("ann"), 3, 2)
    records.add(new_render("bob"), 3, 2)
    with pytest.raises(QueueFull):
        records.add(new_render("cem"), 3, 2)
    acquired = leases.acquire(LONG_S)
    assert acquired is not None
    records.add(new_render("cem"), 3, 2)
    with pytest.raises(TooManyRenders):
        records.add(new_render("ann"), 9, 2)
    leases.fail(acquired[0], {"type": "x"})
    records.add(new_render("ann"), 9, 2)


def test_pages_list_the_newest_first(records: Records) -> None:
    ids = [records.add(new_render("ann" if i % 2 else "bob"), *LIMITS)[0].id for i in range(7)]
    assert ids == sorted(ids)
    first = records.page(None, None, 3)
    rest = records.page(None, first[-1].id, 10)
    assert [row.id for row in (*first, *rest)] == ids[::-1]
    assert [row.id for row in records.page("ann", None, 10)] == ids[1::2][::-1]


def test_a_leased_render_is_not_leased_again(records: Records, leases: Leases) -> None:
    first, second = (records.add(new_render(), *LIMITS)[0].id for _ in range(2))
    acquired = [leases.acquire(LONG_S) for _ in range(3)]
    assert [t and (t[0].render_id, t[0].attempt) for t in acquired] == [(first, 1), (second, 1), None]


def test_concurrent_workers_never_lease_the_same_render(records: Records, database_url: str) -> None:
    ids = {records.add(new_render(), *LIMITS)[0].id for _ in range(20)}

    def work(_: int) -> list[str]:
        database = Database(database_url)
        acquired = []
        while (lease_and_row := Leases(database).acquire(LONG_S)) is not None:
            acquired.append(lease_and_row[0].render_id)
        database.close()
        return acquired

    with ThreadPoolExecutor(6) as pool:
        acquired = [i for part in pool.map(work, range(6)) for i in part]
    assert sorted(acquired) == sorted(ids)


def test_a_stale_attempt_writes_nothing(records: Records, leases: Leases) -> None:
    render_id = records.add(new_render(), *LIMITS)[0].id
    stale = leases.acquire(EXPIRED_S)
    fresh = leases.acquire(LONG_S)
    assert stale is not None and fresh is not None
    assert (stale[0].attempt, fresh[0].attempt) == (1, 2)
    old, new = stale[0], fresh[0]
    for write in (
        lambda: leases.renew(old, LONG_S),
        lambda: leases.update(old, "poses", stage="poses"),
        lambda: leases.save_chunk(old, 0, {"uri": "old"}),
        lambda: leases.publish(old, {"uri": "old"}),
        lambda: leases.fail(old, {"type": "old"}),
    ):
        with pytest.raises(LeaseLost):
            write()
    leases.update(new, "rendering", {"frames": 9}, stage="rendering", frames_total=9)
    leases.save_chunk(new, 0, {"uri": "new"})
    leases.save_chunk(new, 0, {"uri": "newer"})
    assert leases.publish(new, {"uri": "film"}) == {"uri": "film"}
    row = records.get(render_id)
    assert row is not None and row.result == {"uri": "film"}
    assert (row.state, row.stage, row.problem, row.token) == ("done", "rendering", None, None)
    assert records.chunks(render_id) == {0: {"uri": "newer"}}
    kinds = [kind for _, kind, _ in records.events(render_id, 0)]
    assert kinds == ["queued", "started", "started", "rendering", "chunk", "chunk", "done"]


def test_a_renewed_lease_is_kept(records: Records, leases: Leases) -> None:
    records.add(new_render(), *LIMITS)
    acquired = leases.acquire(EXPIRED_S)
    assert acquired is not None
    leases.renew(acquired[0], LONG_S)
    assert leases.acquire(LONG_S) is None


def test_a_fingerprint_has_one_result(records: Records, leases: Leases) -> None:
    for _ in range(2):
        records.add(new_render(fingerprint="same"), *LIMITS)
    first, second = leases.acquire(LONG_S), leases.acquire(LONG_S)
    assert first is not None and second is not None
    assert leases.publish(second[0], {"uri": "second"}) == {"uri": "second"}
    assert leases.publish(first[0], {"uri": "first"}) == {"uri": "second"}
    assert records.result_of("same") == {"uri": "second"}
    with pytest.raises(LeaseLost):
        leases.publish(first[0], {"uri": "again"})


def test_a_cancelled_render_ends_at_once(records: Records, leases: Leases) -> None:
    waiting, running, done = (records.add(new_render(fingerprint=f), *LIMITS)[0].id for f in "abc")
    assert records.cancel(waiting) is not None
    acquired, other = leases.acquire(LONG_S), leases.acquire(LONG_S)
    assert acquired is not None and other is not None
    assert [acquired[0].render_id, other[0].render_id] == [running, done]
    leases.publish(other[0], {"uri": "film"})
    records.cancel(running)
    with pytest.raises(LeaseLost):
        leases.renew(acquired[0], LONG_S)
    unchanged = records.cancel(done)
    assert unchanged is not None and unchanged.state == "done"
    assert records.cancel("nothing") is None
    assert leases.acquire(LONG_S) is None


def test_events_continue_after_a_number(records: Records, leases: Leases) -> None:
    render_id = records.add(new_render(), *LIMITS)[0].id
    acquired = leases.acquire(LONG_S)
    assert acquired is not None
    numbers = [number for number, _, _ in records.events(render_id, 0)]
    assert len(numbers) == 2 and numbers == sorted(numbers)
    leases.update(acquired[0], "seam", {"frame": 9})
    assert [(kind, data) for _, kind, data in records.events(render_id, numbers[-1])] == [("seam", {"frame": 9})]


def test_a_forgotten_render_is_removed(records: Records, leases: Leases) -> None:
    ids = [records.add(new_render(fingerprint="same"), *LIMITS)[0].id for _ in range(2)]
    for _ in ids:
        acquired = leases.acquire(LONG_S)
        assert acquired is not None
        leases.save_chunk(acquired[0], 0, {"uri": "c"})
        leases.publish(acquired[0], {"uri": "film"})
    assert {row.id for row in records.ended_before(EXPIRED_S)} == {*ids}
    assert records.ended_before(LONG_S) == []
    records.forget(ids[0])
    assert records.get(ids[0]) is None and records.result_of("same") == {"uri": "film"}
    records.forget(ids[1])
    assert records.result_of("same") is None and records.events(ids[1], 0) == []
    records.forget("nothing")
