"""jobs/forget_dancer.py with a real S3 server, MLflow with its artifacts on it, and Postgres for renders."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import pytest
from mlflow import MlflowClient

from cluster.privacy.eraser import RendersUnreached
from cluster.privacy.forget import DancerInTraining, Report
from cluster.privacy.forget import forget as forget_everywhere
from cluster.storage.open import open_storage
from cluster.tracking.mlflow_client import client_at
from cluster.tracking.registry import DancerUnknown, find_dancer, list_dancers
from serving.db.engine import Database
from serving.db.records import Records
from serving.ops.forget import RenderEraser
from serving.settings import Settings
from serving.workers import paths
from tests.support.mlflow_server import MlflowServer
from tests.support.postgres import PostgresServer
from tests.support.s3 import S3Server
from tests.support.trained import KEYS, everything, leave_fleet, readable, write_footage
from tests.unit.serving.conftest import new_render

pytestmark = pytest.mark.cluster
ROOT = Path(__file__).parents[2]
# Part of the names of anna's model, footage and consent; the key of anna's training.
MARKS = ("anna", KEYS["anna"])


@pytest.fixture(scope="module")
def bucket(s3_server: S3Server) -> Iterator[str]:
    with pytest.MonkeyPatch.context() as patch:
        for key, value in s3_server.environment.items():
            patch.setenv(key, value)
        yield s3_server.uri(f"forget{uuid4().hex[:8]}")


@pytest.fixture(scope="module")
def mlflow_on_s3(bucket: str) -> Iterator[MlflowServer]:
    server = MlflowServer("--artifacts-destination", f"{bucket}/mlflow")
    yield server
    server.close()


@pytest.fixture
def storage(
    bucket: str, mlflow_on_s3: MlflowServer, postgres: PostgresServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[str]:
    """A storage in the bucket with the dancers anna and ben, footage and a render of both."""
    storage_uri = f"{bucket}/{uuid4().hex[:8]}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow_on_s3.uri)
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", uuid4().hex)
    monkeypatch.setenv("DANCEDIST_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("DANCEDIST_DATABASE", postgres.url(f"t{uuid4().hex[:12]}"))
    footage = {name: f"{storage_uri}/footage/{name}1.mp4" for name in ("anna", "ben")}
    for shade, uri in enumerate(footage.values()):
        write_footage(uri, 10 * shade, tmp_path)
    leave_fleet(storage_uri, {name: [uri] for name, uri in footage.items()}, tmp_path)
    settings = Settings(storage=storage_uri)
    database = Database(settings.database)
    for name in footage:
        uploads, work = paths.sources(storage_uri), paths.work(storage_uri, name[:1] * 16)
        uploads.write(f"{name[:1]}.mp4", b"dance")
        work.write("chunks/0", b"chunk")
        dancer = {"name": f"dancer-{name}", "version": 1}
        request = replace(new_render(name, name[:1] * 16), source=f"{uploads.uri}/{name[:1]}.mp4", dancer=dancer)
        Records(database).add(request, 99, 99)
    database.close()
    yield storage_uri
    forget("anna", storage_uri, remove=True, stopped=True)
    forget("ben", storage_uri, remove=True)


def forget(dancer: str, storage: str, *, remove: bool, stopped: bool = False) -> Report:
    """As the job does."""
    return forget_everywhere(dancer, storage, (), [RenderEraser(storage)], remove=remove, stopped=stopped)


def files_about_anna(storage: str) -> list[str]:
    bucket = storage.rpartition("/")[0]
    return [name for name, text in readable(everything(bucket)).items() if any(mark in text for mark in MARKS)]


def mlflow_tables(server: MlflowServer) -> str:
    with sqlite3.connect(server.folder / "m.db") as database:
        return "\n".join(line for line in database.iterdump() if line.startswith("INSERT"))


def test_all_data_of_a_person_is_deleted(storage: str, mlflow_on_s3: MlflowServer, tmp_path: Path) -> None:
    bucket = storage.rpartition("/")[0]
    before, client = everything(bucket), client_at(mlflow_on_s3.uri)
    assert len(files_about_anna(storage)) > 10
    found = forget("anna", storage, remove=False).found
    kinds = {"versions", "renders", "films and chunks", "sources of renders", "footage", "poses", "segments"}
    assert kinds | {"trainings", "runs in MLflow", "fleets in MLflow", "rows in tables"} <= {*found}
    assert everything(bucket) == before
    command = [sys.executable, str(ROOT / "jobs" / "forget_dancer.py"), "anna", "--yes", "--storage", storage]
    done = subprocess.run(
        [*command, "--report", str(tmp_path / "report.json")], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["found"] == found and "removed: trainings" in done.stdout

    assert files_about_anna(storage) == []
    with pytest.raises(DancerUnknown):
        find_dancer("models:/dancer-anna@champion", mlflow_on_s3.uri)
    assert {version.name for version, _ in list_dancers(mlflow_on_s3.uri)} == {"dancer-ben"}
    # No file of ben has changed, except for the tables that listed both.
    changed = {name for name, data in everything(bucket).items() if before.get(name) != data}
    assert {name.rpartition("/")[2] for name in changed} == {
        "fleet.json", "stats.parquet", "errors.parquet", "summary.json"
    }  # fmt: skip
    assert all(name in everything(bucket) for name in before if "ben" in name or KEYS["ben"] in name)
    database = Database(os.environ["DANCEDIST_DATABASE"])
    assert [row.dancer["name"] for row in Records(database).page(None, None, 9)] == ["dancer-ben"]
    database.close()

    # MLflow's API cannot delete everything; the report names the `mlflow gc` command for the rest.
    (line,) = [line for line in report["left_to_do"] if "mlflow gc" in line]
    store = f"sqlite:///{mlflow_on_s3.folder}/m.db"
    gc = [sys.executable, "-m", "mlflow", *line.partition("mlflow ")[2].replace("...", store).split()]
    subprocess.run(gc, check=True, capture_output=True, cwd=tmp_path, timeout=120)
    tables = mlflow_tables(mlflow_on_s3)
    assert "ben" in tables and not [mark for mark in MARKS if mark in tables]
    assert forget("anna", storage, remove=True).found == {}
    assert client.get_registered_model("dancer-ben").aliases == {"candidate": "1", "champion": "1"}


def test_a_deletion_killed_anywhere_is_completed(
    storage: str, mlflow_on_s3: MlflowServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket = type(open_storage(storage))
    acts = [(bucket, "delete"), (bucket, "write"), (MlflowClient, "delete_registered_model"), (Records, "forget")]
    acts += [(MlflowClient, act) for act in ("delete_tag", "update_run", "delete_run", "log_text", "restore_run")]
    limit, kills = 0, 0
    while True:
        limit += 2
        with monkeypatch.context() as patch:
            remaining = [limit]
            for kind, name in acts:
                patch.setattr(kind, name, _until(remaining, getattr(kind, name)))
            try:
                forget("anna", storage, remove=True)
                break
            except KeyboardInterrupt:
                kills += 1
    assert kills > 3 and files_about_anna(storage) == []
    assert forget("anna", storage, remove=False).found == {}


def _until(remaining: list[int], act: object) -> object:
    def counted(*args: object, **kwargs: object) -> object:
        if not remaining[0]:
            raise KeyboardInterrupt
        remaining[0] -= 1
        return act(*args, **kwargs)  # type: ignore[operator]

    return counted


def test_a_dancer_in_training_is_not_deleted(storage: str, mlflow_on_s3: MlflowServer) -> None:
    client = client_at(mlflow_on_s3.uri)
    experiment = client.get_experiment_by_name(os.environ["MLFLOW_EXPERIMENT_NAME"])
    (run,) = client.search_runs([experiment.experiment_id], "run_name = 'anna'")
    client.update_run(run.info.run_id, status="RUNNING")
    before = everything(storage)
    with pytest.raises(DancerInTraining, match="train_many stopped"):
        forget("anna", storage, remove=True)
    assert everything(storage) == before
    assert forget("anna", storage, remove=True, stopped=True).removed


def test_unreachable_renders_are_an_error(storage: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.delenv("DANCEDIST_DATABASE")
        with pytest.raises(RendersUnreached, match="DANCEDIST_DATABASE"):
            RenderEraser(storage).find("anna")
