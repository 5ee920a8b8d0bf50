from __future__ import annotations

import importlib
from pathlib import Path

import pytest
from pydantic import ValidationError

from cluster.tracking.mlflow_client import TrackingRefused
from serving.settings import RecordsNotShared, Settings


def test_records_lie_beside_the_storage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DANCEDIST_STORAGE", str(tmp_path / "runs"))
    monkeypatch.setenv("DANCEDIST_BUCKETS", '["films"]')
    settings = Settings()
    assert settings.database == f"sqlite:///{tmp_path}/runs/renders.db"
    assert settings.buckets == {"films"}


def test_a_bucket_holds_no_sqlite() -> None:
    with pytest.raises(ValidationError, match="DANCEDIST_DATABASE"):
        Settings(storage="s3://films/x")
    assert Settings(storage="s3://films/x", database="postgresql+psycopg://db/x").storage == "s3://films/x"


def test_what_is_no_setting_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValidationError):
        Settings(storage=str(tmp_path), replicas=0)


def test_on_several_nodes_records_and_registry_are_shared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    alone, postgres = Settings(storage=str(tmp_path)), "postgresql+psycopg://db/x"
    alone.require_shared(1)
    for settings in (alone, Settings(storage=str(tmp_path), database=postgres)):
        with pytest.raises(TrackingRefused):
            settings.require_shared(2)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://mlflow:5000")
    with pytest.raises(RecordsNotShared, match="2 nodes"):
        alone.require_shared(2)
    Settings(storage=str(tmp_path), database=postgres).require_shared(2)


@pytest.mark.parametrize(("module", "name", "arguments"), [("dispatcher", "Director", 2), ("replica", "Renderer", 1)])
def test_every_process_refuses_what_is_not_shared(
    module: str, name: str, arguments: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://mlflow:5000")
    part = importlib.import_module(f"serving.workers.{module}")
    monkeypatch.setattr(part, "alive_nodes", lambda: 2)
    with pytest.raises(RecordsNotShared):
        getattr(part, name)(*(Settings(storage=str(tmp_path)), None)[:arguments])
