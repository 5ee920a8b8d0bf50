from __future__ import annotations

import importlib
from pathlib import Path

import pytest
from pydantic import ValidationError

from cluster.tracking.mlflow_client import TrackingRefused
from serving.settings import RecordsNotShared, Settings


def test_records_are_in_the_storage_folder_by_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DANCEDIST_STORAGE", str(tmp_path / "runs"))
    monkeypatch.setenv("DANCEDIST_BUCKETS", '["films"]')
    settings = Settings()
    assert settings.database == f"sqlite:///{tmp_path}/runs/renders.db"
    assert settings.buckets == {"films"}


def test_a_bucket_needs_a_database_url() -> None:
    with pytest.raises(ValidationError, match="DANCEDIST_DATABASE"):
        Settings(storage="s3://films/x")
    assert Settings(storage="s3://films/x", database="postgresql+psycopg://db/x").storage == "s3://films/x"


def test_an_invalid_setting_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValidationError):
        Settings(storage=str(tmp_path), replicas=0)


@pytest.mark.parametrize(
    ("old", "new", "field"),
    [
        ("DANCEDIST_DIRECTORS", "DANCEDIST_DISPATCHERS", "dispatchers"),
        ("DANCEDIST_LOCKSTEP", "DANCEDIST_RENDER_BATCH", "render_batch"),
    ],
)
def test_old_names_are_read_with_a_warning(
    old: str, new: str, field: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("DANCEDIST_STORAGE", str(tmp_path))
    monkeypatch.setenv(new, "3")
    assert getattr(Settings(), field) == 3 and not caplog.messages
    monkeypatch.delenv(new)
    monkeypatch.setenv(old, "2")
    assert getattr(Settings(), field) == 2
    assert caplog.messages == [f"warning: {old} was renamed to {new}"]
    monkeypatch.setenv(new, "3")
    assert getattr(Settings(), field) == 3
    assert getattr(Settings(**{field: 4}), field) == 4  # type: ignore[arg-type]
    assert (Settings.env_name(field), Settings.old_env_names(field)) == (new, [old])
    monkeypatch.setenv(old, "0")
    monkeypatch.delenv(new)
    with pytest.raises(ValidationError, match="DANCEDIST"):
        Settings()


def test_several_nodes_need_shared_records_and_registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    local, postgres = Settings(storage=str(tmp_path)), "postgresql+psycopg://db/x"
    local.require_shared(1)
    for settings in (local, Settings(storage=str(tmp_path), database=postgres)):
        with pytest.raises(TrackingRefused):
            settings.require_shared(2)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://mlflow:5000")
    with pytest.raises(RecordsNotShared, match="2 nodes"):
        local.require_shared(2)
    Settings(storage=str(tmp_path), database=postgres).require_shared(2)


@pytest.mark.parametrize(
    ("module", "name", "arguments"), [("dispatcher", "Dispatcher", 3), ("replica", "RenderReplica", 1)]
)
def test_every_process_refuses_records_that_are_not_shared(
    module: str, name: str, arguments: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://mlflow:5000")
    imported = importlib.import_module(f"serving.workers.{module}")
    monkeypatch.setattr(imported, "alive_nodes", lambda: 2)
    with pytest.raises(RecordsNotShared):
        getattr(imported, name)(*(Settings(storage=str(tmp_path)), None, ())[:arguments])
