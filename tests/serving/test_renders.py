"""Renders while processes of the service are killed or stopped."""

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

from cluster.storage.open import open_storage
from dancedist import commands
from dancedist.files import file_sha256
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
    """Sources: `long.mp4` is rendered in two chunks, `short.mp4` in one."""
    folder = tmp_path_factory.mktemp("films")
    for name, seconds in (("long", 6.4), ("short", 0.5)):
        write_dance(folder / f"{name}.mp4", seconds)
    return folder


@pytest.fixture(scope="module")
def expected(films: Path, dancer: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, np.ndarray]:
    """The frames of every film as one process renders it without chunks; uint8 RGB (T, H, W, 3)."""
    out = tmp_path_factory.mktemp("expected")
    rendered = {
        name: commands.render(dancer, films / f"{name}.mp4", out / f"{name}.mp4").path for name in ("long", "short")
    }
    return {name: frames_of(path) for name, path in rendered.items()}


def frames_of(path: Path) -> np.ndarray:
    return np.stack([frame for frame in read_frames(probe(path, ENCODING)) if frame is not None])


def check(served: Served, render_id: str, expected: np.ndarray, tmp_path: Path) -> None:
    """The film has the expected frames and the recorded checksum."""
    render, path = served.get(render_id), tmp_path / "film.mp4"
    path.write_bytes(served.client.get(f"/v1/renders/{render_id}/result").content)
    assert render["result"]["sha256"] == file_sha256(path)
    frames = frames_of(path)
    assert frames.shape == expected.shape
    assert np.abs(frames.astype(int) - expected).mean() < 1
    assert probe(path, ENCODING).audio_codec == "aac"


def wait_for(what: str, within_s: float, condition: object) -> None:
    deadline_s = time.monotonic() + within_s
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline_s, f"no {what} in {within_s:.0f} s"
        time.sleep(0.02)


def stored(served: Served, part: str) -> list[str]:
    store = open_storage(f"{served.settings.storage}/renders/work")
    return [entry.name for entry in store.list() if part in entry.name]


@contextmanager
def fresh(served: Served) -> Iterator[None]:
    """Remove stored films and records first; otherwise an earlier film would be reused."""
    store = open_storage(f"{served.settings.storage}/renders/work")
    for entry in store.list():
        store.delete(entry.name)
    database = Database(served.settings.database)
    records = Records(database)
    for row in records.ended_before(-1):
        records.forget(row.id)
    yield
    database.close()


def test_a_film_has_two_chunks(served: Served, films: Path, expected: dict[str, np.ndarray], tmp_path: Path) -> None:
    render = served.ended(served.send(films / "long.mp4", dancer="ann"), LONG_S)
    assert render["state"] == "done", render["problem"]
    assert [c["warm_up"] for c in render["chunks"]] == [0, WARM_UP_FRAMES] and render["attempt"] == 1
    assert [s["frame"] for s in render["seams"]] == [render["chunks"][1]["start"]]
    check(served, render["id"], expected["long"], tmp_path)
    again = served.ended(served.send(films / "long.mp4", dancer="ann"), 10)
    assert again["id"] != render["id"] and again["result"] == render["result"]


def test_a_replica_is_killed_after_a_chunk_was_stored(
    served: Served, films: Path, expected: dict[str, np.ndarray], tmp_path: Path
) -> None:
    with fresh(served):
        render_id = served.send(films / "long.mp4", dancer="ann")
        wait_for("chunk", LONG_S, lambda: stored(served, "/chunks/"))
        before = {name: _mtime_ns(served, name) for name in stored(served, "/chunks/")}
        pid = served.kill("replica")
        render = served.ended(render_id, LONG_S)
        assert render["state"] == "done", render["problem"]
        check(served, render_id, expected["long"], tmp_path)
        assert {name: _mtime_ns(served, name) for name in before} == before
    served.healthy("replica", pid)


def test_all_dispatchers_are_killed_between_film_and_record(
    served: Served, postgres: PostgresServer, films: Path, expected: dict[str, np.ndarray], tmp_path: Path
) -> None:
    """A trigger delays the record for long enough to kill all dispatchers."""
    hold = """
        CREATE OR REPLACE FUNCTION hold() RETURNS trigger AS $$ BEGIN PERFORM pg_sleep(5); RETURN NEW; END $$
        LANGUAGE plpgsql;
        CREATE TRIGGER hold BEFORE INSERT ON results FOR EACH ROW EXECUTE FUNCTION hold()"""
    with fresh(served), psycopg.connect(_psycopg_url(postgres), autocommit=True) as sql:
        sql.execute(hold)
        render_id = served.send(films / "short.mp4", dancer="ann")
        wait_for("film", LONG_S, lambda: stored(served, "/film-"))
        pids = served.pids("dispatcher")
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        assert served.get(render_id)["state"] == "running"
        sql.execute("DROP TRIGGER hold ON results")
        render = served.ended(render_id, LONG_S)
        assert render["state"] == "done" and render["attempt"] == 2, render
        assert sql.execute("SELECT count(*) FROM results").fetchone() == (1,)
        check(served, render_id, expected["short"], tmp_path)
        wait_for("takeover", 30, lambda: served.counted("ray_dancedist_renders_takeovers_total") >= 1)
    for pid in pids:
        served.healthy("dispatcher", pid)


def test_a_resumed_stale_attempt_changes_nothing(
    served: Served, films: Path, expected: dict[str, np.ndarray], tmp_path: Path
) -> None:
    """The working dispatcher is stopped for longer than its lease and continues after another one took over.

    It must continue before the film is done: a replica that streams to a stopped process blocks for 100 s.
    """
    wait_for("both dispatchers", LONG_S, lambda: len(served.pids("dispatcher")) == 2)
    with fresh(served):
        render_id = served.send(films / "long.mp4", dancer="ann")
        wait_for("plan", LONG_S, lambda: "plan" in _kinds(served, render_id))
        pid = _stop_worker(served, render_id)
        try:
            wait_for("takeover", LONG_S, lambda: _lease(served, render_id)[0] > 1)
        finally:
            os.kill(pid, signal.SIGCONT)
        render = served.ended(render_id, LONG_S)
        assert render["state"] == "done", render["problem"]
        assert render["attempt"] > 1
        check(served, render_id, expected["long"], tmp_path)
    film = served.get(render_id)["result"]
    time.sleep(3 * LEASE_S)
    assert served.get(render_id)["result"] == film
    assert [kind for kind in _kinds(served, render_id) if kind in ("done", "failed")] == ["done"]
    check(served, render_id, expected["long"], tmp_path)


def _stop_worker(served: Served, render_id: str) -> int:
    """Stop the dispatcher that works on a render, which another then takes over. Returns its process id."""
    for pid in served.pids("dispatcher"):
        os.kill(pid, signal.SIGSTOP)
        before = after = _lease(served, render_id)
        while after == before:
            time.sleep(0.1)
            after = _lease(served, render_id)
        if after[0] > before[0]:
            return pid
        os.kill(pid, signal.SIGCONT)
    raise AssertionError("neither dispatcher works on it")


def _lease(served: Served, render_id: str) -> tuple[int, float]:
    """The number of the current attempt, and when its lease expires."""
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


def _mtime_ns(served: Served, name: str) -> int:
    return (Path(served.settings.storage) / "renders" / "work" / name).stat().st_mtime_ns


def _psycopg_url(postgres: PostgresServer) -> str:
    return postgres.url("renders").replace("postgresql+psycopg", "postgresql")
