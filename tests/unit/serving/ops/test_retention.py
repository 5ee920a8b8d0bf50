from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from serving.api.routes import build_api
from serving.db.engine import Database
from serving.db.leases import Leases
from serving.db.records import Records
from serving.ops.retention import sweep
from serving.settings import Settings
from serving.workers import paths
from tests.unit.serving.conftest import new_render

LIMITS = (1000, 1000)
LONG_S = 60.0


@pytest.fixture
def settings(database_url: str, tmp_path: Path) -> Settings:
    """Settings with which an ended render is past its retention time at once."""
    return Settings(storage=str(tmp_path / "runs"), database=database_url, retention_s=1e-9)


def add_done_render(records: Records, leases: Leases, settings: Settings, fingerprint: str, source: str) -> str:
    """Add a render that is done: its source, a chunk and its film are stored."""
    uploads, work = paths.sources(settings.storage), paths.work(settings.storage, fingerprint)
    uploads.write(source, b"dance")
    render_id = records.add(replace(new_render(fingerprint=fingerprint), source=f"{uploads.uri}/{source}"), *LIMITS)[
        0
    ].id
    acquired = leases.acquire(LONG_S)
    assert acquired is not None and acquired[0].render_id == render_id
    work.write("chunks/0", b"chunk")
    work.write("film.mp4", b"film")
    leases.save_chunk(acquired[0], 0, {"uri": "chunks/0"})
    leases.publish(acquired[0], {"uri": f"{work.uri}/film.mp4"})
    return render_id


def stored(settings: Settings, fingerprint: str) -> list[str]:
    uploads = [entry.name for entry in paths.sources(settings.storage).list()]
    return [*uploads, *(entry.name for entry in paths.work(settings.storage, fingerprint).list())]


def test_an_old_render_is_removed_with_its_files(records: Records, leases: Leases, settings: Settings) -> None:
    render_id = add_done_render(records, leases, settings, "f", "dance.mp4")
    assert sweep(records, settings.model_copy(update={"retention_s": LONG_S})) == 0
    assert len(stored(settings, "f")) == 3 and records.get(render_id) is not None
    assert sweep(records, settings) == 1
    assert stored(settings, "f") == [] and records.get(render_id) is None and records.result_of("f") is None


def test_files_that_another_render_uses_stay(records: Records, leases: Leases, settings: Settings) -> None:
    add_done_render(records, leases, settings, "f", "dance.mp4")
    source = f"{paths.sources(settings.storage).uri}/dance.mp4"
    waiting = records.add(replace(new_render(fingerprint="f"), source=source), *LIMITS)[0].id
    assert sweep(records, settings) == 1
    assert stored(settings, "f") == ["dance.mp4", "chunks/0", "film.mp4"]
    assert records.result_of("f") is not None
    records.cancel(waiting)
    assert sweep(records, settings) == 1 and stored(settings, "f") == [] and records.result_of("f") is None


def test_an_interrupted_sweep_leaves_no_result_without_its_film(
    records: Records, leases: Leases, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    render_id = add_done_render(records, leases, settings, "f", "dance.mp4")

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(type(paths.work(settings.storage, "f")), "delete_folder", killed)
        with pytest.raises(KeyboardInterrupt):
            sweep(records, settings)
    assert records.result_of("f") is None and records.get(render_id) is not None
    assert sweep(records, settings) == 1 and stored(settings, "f") == []


def test_the_upload_of_a_refused_request_is_removed(records: Records, settings: Settings) -> None:
    paths.sources(settings.storage).write("refused.mp4", b"dance")
    sweep(records, settings)
    assert stored(settings, "f") == []


def test_an_upload_swept_before_its_render_is_queued_is_stored_again(
    storage: Path, film: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, add, swept = Settings(storage=str(storage)), Records.add, []

    def add_after_sweep(self: Records, *args: object) -> object:
        if not swept:
            swept.append(sweep(self, settings))
        return add(self, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(Records, "add", add_after_sweep)
    with TestClient(build_api(settings), client=("127.0.0.1", 1)) as client:
        answer = client.post("/v1/renders", data={"dancer": "ann"}, files={"source": ("d.mp4", film)})
        assert answer.status_code == 202 and swept == [0]
        database = Database(settings.database)
        row = Records(database).get(answer.json()["id"])
        database.close()
    assert row is not None
    source = row.request["source"]
    (entry,) = paths.sources(settings.storage).list()
    assert (entry.etag, entry.size_bytes) == (source["etag"], len(film))
