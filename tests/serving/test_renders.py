"""The render service with its processes killed."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import psycopg
import pytest

from cluster.storage.base import open_storage
from dancedist import commands
from dancedist.recipe import file_sha256
from dancedist.render.plan import WARM_UP_FRAMES
from dancedist.video.decode import read_frames
from dancedist.video.probe import probe
from serving.db.engine import Database
from serving.db.records import Records
from tests.serving.conftest import ENCODING, LEASE_S, write_dance
from tests.support.postgres import PostgresServer
from tests.support.served import Served

pytestmark = [pytest.mark.cluster, pytest.mark.slow]
LONG_S = 240.0


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`long.mp4` is rendered in two chunks, `short.mp4` in one; with the films that they should become."""
    folder = tmp_path_factory.mktemp("films")
    for name, seconds in (("long", 6.4), ("short", 0.5)):
        write_dance(folder / f"{name}.mp4", seconds)
    return folder


@pytest.fixture(scope="module")
def right(films: Path, dancer: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, np.ndarray]:
    """Every film's frames as one machine renders them, unbroken."""
    out = tmp_path_factory.mktemp("right")
    made = {
        name: commands.render(dancer, films / f"{name}.mp4", out / f"{name}.mp4").path for name in ("long", "short")
    }
    return {name: frames_of(path) for name, path in made.items()}


def frames_of(path: Path) -> np.ndarray:
    return np.stack([frame for frame in read_frames(probe(path, ENCODING)) if frame is not None])


def check(served: Served, render_id: str, right: np.ndarray, tmp_path: Path) -> None:
    """It is the right film, and the one that its record tells of."""
    told, path = served.get(render_id), tmp_path / "film.mp4"
    path.write_bytes(served.client.get(f"/v1/renders/{render_id}/result").content)
    assert told["result"]["sha256"] == file_sha256(path)
    made = frames_of(path)
    assert made.shape == right.shape
    assert np.abs(made.astype(int) - right).mean() < 1
    assert probe(path, ENCODING).audio_codec == "aac"


def wait_for(what: str, within_s: float, seen: object) -> None:
    give_up_s = time.monotonic() + within_s
    while not seen():  # type: ignore[operator]
        assert time.monotonic() < give_up_s, f"no {what} in {within_s:.0f} s"
        time.sleep(0.02)


def stored(served: Served, part: str) -> list[str]:
    store = open_storage(f"{served.settings.storage}/renders/work")
    return [entry.name for entry in store.list() if part in entry.name]


@contextmanager
def fresh(served: Served) -> Iterator[None]:
    """As if nothing had been rendered before: else the film would be found."""
    store = open_storage(f"{served.settings.storage}/renders/work")
    for entry in store.list():
        store.delete(entry.name)
    database = Database(served.settings.database)
    records = Records(database)
    for row in records.ended_before(-1):
        records.forget(row.id)
    yield
    database.close()


def test_a_film_is_made_in_chunks(served: Served, films: Path, right: dict[str, np.ndarray], tmp_path: Path) -> None:
    told = served.ended(served.send(films / "long.mp4", dancer="ann"), LONG_S)
    assert told["state"] == "done", told["problem"]
    assert [c["warm_up"] for c in told["chunks"]] == [0, WARM_UP_FRAMES] and told["attempt"] == 1
    assert [s["frame"] for s in told["seams"]] == [told["chunks"][1]["start"]]
    check(served, told["id"], right["long"], tmp_path)
    again = served.ended(served.send(films / "long.mp4", dancer="ann"), 10)
    assert again["id"] != told["id"] and again["result"] == told["result"]


def test_a_replica_may_die_after_a_chunk_was_stored(
    served: Served, films: Path, right: dict[str, np.ndarray], tmp_path: Path
) -> None:
    with fresh(served):
        render_id = served.send(films / "long.mp4", dancer="ann")
        wait_for("chunk", LONG_S, lambda: stored(served, "/chunks/"))
        first = {name: _written(served, name) for name in stored(served, "/chunks/")}
        pid = served.kill("renderer")
        told = served.ended(render_id, LONG_S)
        assert told["state"] == "done", told["problem"]
        check(served, render_id, right["long"], tmp_path)
        assert {name: _written(served, name) for name in first} == first
    served.healthy("renderer", pid)


def test_the_director_may_die_between_the_film_and_its_record(
    served: Served, postgres: PostgresServer, films: Path, right: dict[str, np.ndarray], tmp_path: Path
) -> None:
    """The database holds the record back for as long as it takes to kill all directors."""
    hold = """
        CREATE OR REPLACE FUNCTION hold() RETURNS trigger AS $$ BEGIN PERFORM pg_sleep(5); RETURN NEW; END $$
        LANGUAGE plpgsql;
        CREATE TRIGGER hold BEFORE INSERT ON results FOR EACH ROW EXECUTE FUNCTION hold()"""
    with fresh(served), psycopg.connect(_plain(postgres), autocommit=True) as sql:
        sql.execute(hold)
        render_id = served.send(films / "short.mp4", dancer="ann")
        wait_for("film", LONG_S, lambda: stored(served, "/film-"))
        pids = served.pids("director")
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        assert served.get(render_id)["state"] == "running"
        sql.execute("DROP TRIGGER hold ON results")
        told = served.ended(render_id, LONG_S)
        assert told["state"] == "done" and told["attempt"] == 2, told
        assert sql.execute("SELECT count(*) FROM results").fetchone() == (1,)
        check(served, render_id, right["short"], tmp_path)
        wait_for("takeover", 30, lambda: served.counted("ray_dancedist_renders_takeovers_total") >= 1)
    for pid in pids:
        served.healthy("director", pid)


def test_a_stale_attempt_that_wakes_up_changes_nothing(
    served: Served, films: Path, right: dict[str, np.ndarray], tmp_path: Path
) -> None:
    """The director that works is stopped for longer than its lease, and goes on beside the one that took over.

    Awake before the film is there: a replica that streams to one that is stopped answers nobody for 100 s.
    """
    wait_for("both directors", LONG_S, lambda: len(served.pids("director")) == 2)
    with fresh(served):
        render_id = served.send(films / "long.mp4", dancer="ann")
        wait_for("plan", LONG_S, lambda: "plan" in _kinds(served, render_id))
        pid = _stopped_at_work(served, render_id)
        try:
            wait_for("takeover", LONG_S, lambda: _claim(served, render_id)[0] > 1)
        finally:
            os.kill(pid, signal.SIGCONT)
        told = served.ended(render_id, LONG_S)
        assert told["state"] == "done", told["problem"]
        assert told["attempt"] > 1
        check(served, render_id, right["long"], tmp_path)
    film = served.get(render_id)["result"]
    time.sleep(3 * LEASE_S)
    assert served.get(render_id)["result"] == film
    assert [kind for kind in _kinds(served, render_id) if kind in ("done", "failed")] == ["done"]
    check(served, render_id, right["long"], tmp_path)


def _stopped_at_work(served: Served, render_id: str) -> int:
    """Stop the one of two directors that works on it: nobody renews its lease then, until the other takes over."""
    for pid in served.pids("director"):
        os.kill(pid, signal.SIGSTOP)
        before = after = _claim(served, render_id)
        while after == before:
            time.sleep(0.1)
            after = _claim(served, render_id)
        if after[0] > before[0]:
            return pid
        os.kill(pid, signal.SIGCONT)
    raise AssertionError("neither of the directors works on it")


def _claim(served: Served, render_id: str) -> tuple[int, float]:
    """Its attempt, and how long that one's lease is."""
    database = Database(served.settings.database)
    row = Records(database).get(render_id)
    database.close()
    assert row is not None and row.lease_until_s is not None, "it has ended"
    return row.attempt, row.lease_until_s


def _kinds(served: Served, render_id: str) -> list[str]:
    database = Database(served.settings.database)
    kinds = [kind for _, kind, _ in Records(database).events(render_id, 0)]
    database.close()
    return kinds


def _written(served: Served, name: str) -> int:
    return (Path(served.settings.storage) / "renders" / "work" / name).stat().st_mtime_ns


def _plain(postgres: PostgresServer) -> str:
    return postgres.url("renders").replace("postgresql+psycopg", "postgresql")
