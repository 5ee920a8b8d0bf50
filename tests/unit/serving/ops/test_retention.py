from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from serving.api.routes import build_api
from serving.db.engine import Database
from serving.db.leases import Claims
from serving.db.records import Records
from serving.ops.retention import sweep
from serving.settings import Settings
from serving.workers import paths
from tests.unit.serving.conftest import asked

ROOM = (1000, 1000)
LONG_S = 60.0


@pytest.fixture
def settings(database_url: str, tmp_path: Path) -> Settings:
    """What has ended is old at once."""
    return Settings(storage=str(tmp_path / "runs"), database=database_url, retention_s=1e-9)


def filmed(records: Records, claims: Claims, settings: Settings, fingerprint: str, source: str) -> str:
    """A render that is done: its source, a chunk and its film are stored."""
    uploads, work = paths.sources(settings.storage), paths.work(settings.storage, fingerprint)
    uploads.write(source, b"dance")
    render_id = records.add(replace(asked(fingerprint=fingerprint), source=f"{uploads.uri}/{source}"), *ROOM)[0].id
    taken = claims.claim(LONG_S)
    assert taken is not None and taken[0].render_id == render_id
    work.write("chunks/0", b"chunk")
    work.write("film.mp4", b"film")
    claims.note_chunk(taken[0], 0, {"uri": "chunks/0"})
    claims.publish(taken[0], {"uri": f"{work.uri}/film.mp4"})
    return render_id


def left(settings: Settings, fingerprint: str) -> list[str]:
    kept = [entry.name for entry in paths.sources(settings.storage).list()]
    return [*kept, *(entry.name for entry in paths.work(settings.storage, fingerprint).list())]


def test_what_has_ended_is_removed_with_its_files(records: Records, claims: Claims, settings: Settings) -> None:
    render_id = filmed(records, claims, settings, "f", "dance.mp4")
    assert sweep(records, settings.model_copy(update={"retention_s": LONG_S})) == 0
    assert len(left(settings, "f")) == 3 and records.get(render_id) is not None
    assert sweep(records, settings) == 1
    assert left(settings, "f") == [] and records.get(render_id) is None and records.result_of("f") is None


def test_what_another_render_has_stays(records: Records, claims: Claims, settings: Settings) -> None:
    filmed(records, claims, settings, "f", "dance.mp4")
    source = f"{paths.sources(settings.storage).uri}/dance.mp4"
    waiting = records.add(replace(asked(fingerprint="f"), source=source), *ROOM)[0].id
    assert sweep(records, settings) == 1
    assert left(settings, "f") == ["dance.mp4", "chunks/0", "film.mp4"]
    assert records.result_of("f") is not None
    records.cancel(waiting)
    assert sweep(records, settings) == 1 and left(settings, "f") == [] and records.result_of("f") is None


def test_broken_off_it_leaves_no_record_of_a_film_that_is_gone(
    records: Records, claims: Claims, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    render_id = filmed(records, claims, settings, "f", "dance.mp4")

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(type(paths.work(settings.storage, "f")), "delete_folder", killed)
        with pytest.raises(KeyboardInterrupt):
            sweep(records, settings)
    assert records.result_of("f") is None and records.get(render_id) is not None
    assert sweep(records, settings) == 1 and left(settings, "f") == []


def test_the_upload_of_a_refused_request_is_removed(records: Records, settings: Settings) -> None:
    paths.sources(settings.storage).write("refused.mp4", b"dance")
    sweep(records, settings)
    assert left(settings, "f") == []


def test_an_upload_that_is_swept_before_it_is_asked_for_is_stored_again(
    storage: Path, film: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, add, swept = Settings(storage=str(storage)), Records.add, []

    def swept_first(self: Records, *args: object) -> object:
        if not swept:
            swept.append(sweep(self, settings))
        return add(self, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(Records, "add", swept_first)
    with TestClient(build_api(settings), client=("127.0.0.1", 1)) as client:
        answer = client.post("/v1/renders", data={"dancer": "ann"}, files={"source": ("d.mp4", film)})
        assert answer.status_code == 202 and swept == [0]
        database = Database(settings.database)
        row = Records(database).get(answer.json()["id"])
        database.close()
    assert row is not None
    kept = row.request["source"]
    (entry,) = paths.sources(settings.storage).list()
    assert (entry.etag, entry.size_bytes) == (kept["etag"], len(film))
