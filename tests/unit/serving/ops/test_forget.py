from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from serving.db.engine import Database
from serving.db.leases import Claims, Superseded
from serving.db.records import Records
from serving.ops.forget import forget
from serving.ops.retention import sweep
from serving.settings import Settings
from serving.workers import paths
from tests.unit.serving.conftest import asked

ROOM = (1000, 1000)


@pytest.fixture
def settings(database_url: str, tmp_path: Path) -> Settings:
    return Settings(storage=str(tmp_path / "runs"), database=database_url)


def ask(records: Records, settings: Settings, dancer: str, fingerprint: str, source: str) -> str:
    """A render with a chunk and its upload; of several with one fingerprint they share the files."""
    uploads = paths.sources(settings.storage)
    uploads.write(source, b"dance")
    paths.work(settings.storage, fingerprint).write("chunks/0", b"chunk")
    wanted = replace(asked(fingerprint=fingerprint), source=f"{uploads.uri}/{source}", dancer={"name": dancer})
    return records.add(wanted, *ROOM)[0].id


def test_renders_of_a_dancer_go_whatever_they_are_at(
    records: Records, claims: Claims, settings: Settings, database: Database
) -> None:
    ids = [ask(records, settings, "dancer-ann", *of) for of in (("f", "a.mp4"), ("f", "a.mp4"), ("g", "both.mp4"))]
    others = ask(records, settings, "dancer-anna", "h", "both.mp4")
    first = claims.claim(60)
    assert first is not None
    claims.publish(first[0], {"uri": "x"})
    running = claims.claim(60)
    assert running is not None
    claims.note_chunk(running[0], 0, {"uri": "chunks/0"})
    shown = forget(records, settings, "ann", really=False)
    assert sorted(shown["renders"]) == sorted(ids) and len(shown["films and chunks"]) == 2
    assert [row is not None for row in map(records.get, ids)] == [True] * 3
    assert forget(records, settings, "ann", really=True) == shown
    database.purge()
    assert [records.get(one) for one in ids] == [None] * 3 and records.result_of("f") is None
    with pytest.raises(Superseded):
        claims.note(running[0])
    assert records.get(others) is not None
    assert [entry.name for entry in paths.works(settings.storage).list()] == ["h/chunks/0"]
    assert [entry.name for entry in paths.sources(settings.storage).list()] == ["both.mp4"]
    assert not any(forget(records, settings, "ann", really=True).values())


def test_who_works_on_it_stops_before_its_files_go(
    records: Records, claims: Claims, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask(records, settings, "dancer-ann", "f", "a.mp4")
    running = claims.claim(60)
    assert running is not None
    stopped: list[bool] = []

    def killed(*_: object) -> None:
        row = records.get(running[0].render_id)
        stopped.append(row is not None and row.state == "cancelled")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(type(paths.works(settings.storage)), "delete_folder", killed)
        with pytest.raises(KeyboardInterrupt):
            forget(records, settings, "ann", really=True)
    assert stopped == [True]
    assert len(forget(records, settings, "ann", really=True)["renders"]) == 1
    assert not any(forget(records, settings, "ann", really=True).values())


def test_a_chunk_that_comes_after_all_is_swept(records: Records, settings: Settings) -> None:
    ask(records, settings, "dancer-ann", "f", "a.mp4")
    kept = ask(records, settings, "dancer-ben", "h", "b.mp4")
    forget(records, settings, "ann", really=True)
    paths.work(settings.storage, "f").write("chunks/1", b"what a replica was still at")
    assert sweep(records, settings) == 0
    assert [entry.name for entry in paths.works(settings.storage).list()] == ["h/chunks/0"]
    assert records.get(kept) is not None


def test_of_what_was_removed_nothing_stays_in_the_file(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path}/records.db")
    records, settings = Records(database), Settings(storage=str(tmp_path / "runs"), database="sqlite://")
    ask(records, settings, "dancer-whoever", "f", "a.mp4")
    forget(records, settings, "whoever", really=True)
    database.purge()
    assert not [f for f in tmp_path.glob("records.db*") if b"whoever" in f.read_bytes()]
    database.close()
