from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import pytest

from cluster.privacy.eraser import RendersUnreached
from serving.db.engine import Database
from serving.db.leases import LeaseLost, Leases
from serving.db.records import Records
from serving.ops.forget import RenderEraser, forget_renders
from serving.ops.retention import sweep
from serving.settings import Settings
from serving.workers import paths
from tests.support.s3 import S3Server
from tests.unit.serving.conftest import new_render

LIMITS = (1000, 1000)


@pytest.fixture
def settings(database_url: str, tmp_path: Path) -> Settings:
    return Settings(storage=str(tmp_path / "runs"), database=database_url)


def queue(records: Records, settings: Settings, dancer: str, fingerprint: str, source: str) -> str:
    """Queue a render with a chunk and an upload; renders with the same fingerprint share the files."""
    uploads = paths.sources(settings.storage)
    uploads.write(source, b"dance")
    paths.work(settings.storage, fingerprint).write("chunks/0", b"chunk")
    render = replace(new_render(fingerprint=fingerprint), source=f"{uploads.uri}/{source}", dancer={"name": dancer})
    return records.add(render, *LIMITS)[0].id


def test_renders_of_a_dancer_are_removed_in_any_state(
    records: Records, leases: Leases, settings: Settings, database: Database
) -> None:
    ids = [queue(records, settings, "dancer-ann", *of) for of in (("f", "a.mp4"), ("f", "a.mp4"), ("g", "both.mp4"))]
    others = queue(records, settings, "dancer-anna", "h", "both.mp4")
    first = leases.acquire(60)
    assert first is not None
    leases.publish(first[0], {"uri": "x"})
    running = leases.acquire(60)
    assert running is not None
    leases.save_chunk(running[0], 0, {"uri": "chunks/0"})
    listed = forget_renders(records, settings, "ann", remove=False)
    assert sorted(listed["renders"]) == sorted(ids) and len(listed["films and chunks"]) == 2
    assert [row is not None for row in map(records.get, ids)] == [True] * 3
    assert forget_renders(records, settings, "ann", remove=True) == listed
    database.purge()
    assert [records.get(one) for one in ids] == [None] * 3 and records.result_of("f") is None
    with pytest.raises(LeaseLost):
        leases.update(running[0])
    assert records.get(others) is not None
    assert [entry.name for entry in paths.works(settings.storage).list()] == ["h/chunks/0"]
    assert [entry.name for entry in paths.sources(settings.storage).list()] == ["both.mp4"]
    assert not any(forget_renders(records, settings, "ann", remove=True).values())


def test_a_running_render_is_cancelled_before_its_files_are_deleted(
    records: Records, leases: Leases, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue(records, settings, "dancer-ann", "f", "a.mp4")
    running = leases.acquire(60)
    assert running is not None
    cancelled: list[bool] = []

    def killed(*_: object) -> None:
        row = records.get(running[0].render_id)
        cancelled.append(row is not None and row.state == "cancelled")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(type(paths.works(settings.storage)), "delete_folder", killed)
        with pytest.raises(KeyboardInterrupt):
            forget_renders(records, settings, "ann", remove=True)
    assert cancelled == [True]
    assert len(forget_renders(records, settings, "ann", remove=True)["renders"]) == 1
    assert not any(forget_renders(records, settings, "ann", remove=True).values())


def test_a_chunk_written_after_the_removal_is_swept(records: Records, settings: Settings) -> None:
    queue(records, settings, "dancer-ann", "f", "a.mp4")
    other = queue(records, settings, "dancer-ben", "h", "b.mp4")
    forget_renders(records, settings, "ann", remove=True)
    paths.work(settings.storage, "f").write("chunks/1", b"written late")
    assert sweep(records, settings) == 0
    assert [entry.name for entry in paths.works(settings.storage).list()] == ["h/chunks/0"]
    assert records.get(other) is not None


def test_nothing_of_a_removed_render_stays_in_the_database_file(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path}/records.db")
    records, settings = Records(database), Settings(storage=str(tmp_path / "runs"), database="sqlite://")
    queue(records, settings, "dancer-whoever", "f", "a.mp4")
    forget_renders(records, settings, "whoever", remove=True)
    database.purge()
    assert not [f for f in tmp_path.glob("records.db*") if b"whoever" in f.read_bytes()]
    database.close()


@pytest.fixture
def storage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A storage folder, with DANCEDIST_DATABASE not set."""
    monkeypatch.delenv("DANCEDIST_DATABASE", raising=False)
    return str(tmp_path / "runs")


def test_without_records_there_is_nothing_to_erase(storage: str) -> None:
    eraser = RenderEraser(storage)
    assert eraser.find("ann") == {}
    eraser.erase("ann")
    assert not Path(storage).exists()


def test_the_eraser_leaves_nothing_in_the_database_file(storage: str) -> None:
    settings = Settings(storage=storage)
    database = Database(settings.database)
    render_id = queue(Records(database), settings, "dancer-whoever", "f", "a.mp4")
    others = queue(Records(database), settings, "dancer-ben", "h", "b.mp4")
    database.close()
    eraser = RenderEraser(storage)
    listed = eraser.find("whoever")
    assert listed == {
        "renders": [render_id],
        "films and chunks": [f"{storage}/renders/work/f/chunks/0"],
        "sources of renders": [f"{storage}/renders/sources/a.mp4"],
    }
    assert eraser.find("whoever") == listed
    eraser.erase("whoever")
    assert not any(eraser.find("whoever").values()) and eraser.find("ben")["renders"] == [others]
    assert not [f for f in Path(storage).glob("renders.db*") if b"whoever" in f.read_bytes()]


def test_a_configured_database_is_used(storage: str, database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DANCEDIST_DATABASE", database_url)
    database = Database(database_url)
    queue(Records(database), Settings(storage=storage), "dancer-ann", "f", "a.mp4")
    RenderEraser(storage).erase("ann")
    assert Records(database).page(None, None, 9) == []
    database.close()


def test_renders_in_a_bucket_need_their_database(
    storage: str, s3_server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    for key, value in s3_server.environment.items():
        monkeypatch.setenv(key, value)
    uri = s3_server.uri(f"tests/{uuid4().hex}")
    assert RenderEraser(uri).find("ann") == {}
    paths.work(uri, "f").write("chunks/0", b"chunk")
    for act in (RenderEraser(uri).find, RenderEraser(uri).erase):
        with pytest.raises(RendersUnreached, match="DANCEDIST_DATABASE"):
            act("ann")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DANCEDIST_DATABASE", "sqlite:////no/such/folder/renders.db"),
        ("DANCEDIST_DATABASE", "no URL"),
        ("DANCEDIST_DATABASE", "mysql+nothing://host/x"),
        ("DANCEDIST_REPLICAS", "none"),
    ],
)
def test_unreachable_records_are_reported(storage: str, name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DANCEDIST_DATABASE", "sqlite://")
    monkeypatch.setenv(name, value)
    for act in (RenderEraser(storage).find, RenderEraser(storage).erase):
        with pytest.raises(RendersUnreached, match="do not answer") as raised:
            act("ann")
        assert raised.value.slug == "renders-unreached"
