from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from serving.db.engine import Database, now_s
from serving.db.leases import Claims, Superseded
from serving.db.records import QueueFull, Records, RequestDiffers, TooManyRenders
from tests.unit.serving.conftest import asked

ROOM = (1000, 1000)
LONG_S, GONE_S = 60.0, -1.0


def test_the_databases_clock_is_a_clock(database: Database) -> None:
    with database.reading() as session:
        assert abs(now_s(session) - time.time()) < 5
        first = now_s(session)
        time.sleep(0.05)
        assert 0.02 < now_s(session) - first < 5


def test_the_same_request_is_one_render(records: Records) -> None:
    first, new = records.add(asked(again="k"), *ROOM)
    assert new and first.state == "queued"
    same, new = records.add(asked(again="k"), *ROOM)
    assert not new and same.id == first.id
    assert records.add(asked("bob", again="k"), *ROOM)[0].id != first.id
    assert records.add(asked(), *ROOM)[0].id != records.add(asked(), *ROOM)[0].id
    with pytest.raises(RequestDiffers):
        records.add(asked(again="k", sha="other"), *ROOM)


def test_many_at_once_make_one_render_and_never_too_many(database_url: str) -> None:
    """Each with connections of its own, as several processes have."""

    def add(i: int) -> str:
        database = Database(database_url)
        try:
            return Records(database).add(asked(again="k" if i % 2 else None), 9, 100)[0].id
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


def test_the_queue_and_a_keys_renders_are_bounded(records: Records, claims: Claims) -> None:
    for _ in range(2):
        records.add(asked("ann"), 3, 2)
    with pytest.raises(TooManyRenders):
        records.add(asked("ann"), 3, 2)
    records.add(asked("bob"), 3, 2)
    with pytest.raises(QueueFull):
        records.add(asked("cem"), 3, 2)
    taken = claims.claim(LONG_S)
    assert taken is not None
    records.add(asked("cem"), 3, 2)
    with pytest.raises(TooManyRenders):
        records.add(asked("ann"), 9, 2)
    claims.fail(taken[0], {"type": "x"})
    records.add(asked("ann"), 9, 2)


def test_the_newest_come_first_page_by_page(records: Records) -> None:
    ids = [records.add(asked("ann" if i % 2 else "bob"), *ROOM)[0].id for i in range(7)]
    assert ids == sorted(ids)
    first = records.page(None, None, 3)
    rest = records.page(None, first[-1].id, 10)
    assert [row.id for row in (*first, *rest)] == ids[::-1]
    assert [row.id for row in records.page("ann", None, 10)] == ids[1::2][::-1]


def test_one_that_is_claimed_is_nobody_elses(records: Records, claims: Claims) -> None:
    first, second = (records.add(asked(), *ROOM)[0].id for _ in range(2))
    taken = [claims.claim(LONG_S) for _ in range(3)]
    assert [t and (t[0].render_id, t[0].attempt) for t in taken] == [(first, 1), (second, 1), None]


def test_claims_of_many_never_meet(records: Records, database_url: str) -> None:
    ids = {records.add(asked(), *ROOM)[0].id for _ in range(20)}

    def work(_: int) -> list[str]:
        database = Database(database_url)
        taken = []
        while (found := Claims(database).claim(LONG_S)) is not None:
            taken.append(found[0].render_id)
        database.close()
        return taken

    with ThreadPoolExecutor(6) as pool:
        taken = [i for part in pool.map(work, range(6)) for i in part]
    assert sorted(taken) == sorted(ids)


def test_a_stale_attempt_writes_nothing(records: Records, claims: Claims) -> None:
    render_id = records.add(asked(), *ROOM)[0].id
    stale = claims.claim(GONE_S)
    fresh = claims.claim(LONG_S)
    assert stale is not None and fresh is not None
    assert (stale[0].attempt, fresh[0].attempt) == (1, 2)
    old, new = stale[0], fresh[0]
    for write in (
        lambda: claims.renew(old, LONG_S),
        lambda: claims.note(old, "poses", stage="poses"),
        lambda: claims.note_chunk(old, 0, {"uri": "old"}),
        lambda: claims.publish(old, {"uri": "old"}),
        lambda: claims.fail(old, {"type": "old"}),
    ):
        with pytest.raises(Superseded):
            write()
    claims.note(new, "rendering", {"frames": 9}, stage="rendering", frames_total=9)
    claims.note_chunk(new, 0, {"uri": "new"})
    claims.note_chunk(new, 0, {"uri": "newer"})
    assert claims.publish(new, {"uri": "film"}) == {"uri": "film"}
    row = records.get(render_id)
    assert row is not None and row.result == {"uri": "film"}
    assert (row.state, row.stage, row.problem, row.token) == ("done", "rendering", None, None)
    assert records.chunks(render_id) == {0: {"uri": "newer"}}
    kinds = [kind for _, kind, _ in records.events(render_id, 0)]
    assert kinds == ["queued", "started", "started", "rendering", "chunk", "chunk", "done"]


def test_a_lease_that_is_renewed_is_kept(records: Records, claims: Claims) -> None:
    records.add(asked(), *ROOM)
    taken = claims.claim(GONE_S)
    assert taken is not None
    claims.renew(taken[0], LONG_S)
    assert claims.claim(LONG_S) is None


def test_a_fingerprint_has_one_film(records: Records, claims: Claims) -> None:
    for _ in range(2):
        records.add(asked(fingerprint="same"), *ROOM)
    first, second = claims.claim(LONG_S), claims.claim(LONG_S)
    assert first is not None and second is not None
    assert claims.publish(second[0], {"uri": "second"}) == {"uri": "second"}
    assert claims.publish(first[0], {"uri": "first"}) == {"uri": "second"}
    assert records.result_of("same") == {"uri": "second"}
    with pytest.raises(Superseded):
        claims.publish(first[0], {"uri": "again"})


def test_what_is_cancelled_ends_at_once(records: Records, claims: Claims) -> None:
    waiting, running, done = (records.add(asked(fingerprint=f), *ROOM)[0].id for f in "abc")
    assert records.cancel(waiting) is not None
    taken, other = claims.claim(LONG_S), claims.claim(LONG_S)
    assert taken is not None and other is not None
    assert [taken[0].render_id, other[0].render_id] == [running, done]
    claims.publish(other[0], {"uri": "film"})
    records.cancel(running)
    with pytest.raises(Superseded):
        claims.renew(taken[0], LONG_S)
    kept = records.cancel(done)
    assert kept is not None and kept.state == "done"
    assert records.cancel("nothing") is None
    assert claims.claim(LONG_S) is None


def test_events_go_on_after_the_last_that_was_seen(records: Records, claims: Claims) -> None:
    render_id = records.add(asked(), *ROOM)[0].id
    taken = claims.claim(LONG_S)
    assert taken is not None
    numbers = [number for number, _, _ in records.events(render_id, 0)]
    assert len(numbers) == 2 and numbers == sorted(numbers)
    claims.note(taken[0], "seam", {"frame": 9})
    assert [(kind, data) for _, kind, data in records.events(render_id, numbers[-1])] == [("seam", {"frame": 9})]


def test_what_is_forgotten_is_gone(records: Records, claims: Claims) -> None:
    ids = [records.add(asked(fingerprint="same"), *ROOM)[0].id for _ in range(2)]
    for _ in ids:
        taken = claims.claim(LONG_S)
        assert taken is not None
        claims.note_chunk(taken[0], 0, {"uri": "c"})
        claims.publish(taken[0], {"uri": "film"})
    assert {row.id for row in records.ended_before(GONE_S)} == {*ids}
    assert records.ended_before(LONG_S) == []
    records.forget(ids[0])
    assert records.get(ids[0]) is None and records.result_of("same") == {"uri": "film"}
    records.forget(ids[1])
    assert records.result_of("same") is None and records.events(ids[1], 0) == []
    records.forget("nothing")
