"""Inventory and deletion of a person's data in MLflow, as far as its API allows; `mlflow gc` does the rest."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Run, ViewType
from mlflow.exceptions import MlflowException
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

from cluster.tracking.mlflow_client import (
    RegistryUnavailable,
    client_at,
    mlflow_errors_as_unavailable,
    without_password,
)
from cluster.tracking.registry import model_name
from cluster.tracking.runs import FLEET_FILE, KEY_TAG, PARENT_TAG

# New name of a deleted run, until `mlflow gc` removes it.
FORGOTTEN = "forgotten"
_PAGE = 1000


@dataclass
class MlflowInventory:
    """Data of one person in MLflow.

    `versions`: numbers of the model's versions; `runs`: of the person's trainings; `fleets`: run id -> fleet.json of
    fleets that list the person; `videos`: URIs from the runs' tags; `begun_with`: bundle -> names of other runs that
    used it as initial weights; `deleted`: ids of runs that wait for `mlflow gc`; `model`: whether it is registered.
    """

    versions: list[str] = field(default_factory=list)
    runs: list[Run] = field(default_factory=list)
    fleets: dict[str, dict[str, Any]] = field(default_factory=dict)
    videos: set[str] = field(default_factory=set)
    begun_with: dict[str, set[str]] = field(default_factory=dict)
    deleted: list[str] = field(default_factory=list)
    model: bool = False

    def __bool__(self) -> bool:
        return self.model or bool(self.runs or self.fleets)

    @property
    def running(self) -> list[Run]:
        """Trainings that are running according to MLflow."""
        return [run for run in self.runs if run.info.status == "RUNNING" and run.info.lifecycle_stage == "active"]


def find_in_mlflow(registry: str, dancer: str) -> MlflowInventory:
    """Find all data of a dancer in the MLflow at `registry`. Raises RegistryUnavailable."""
    if registry.startswith("sqlite:///") and not Path(registry.removeprefix("sqlite:///")).is_file():
        return MlflowInventory()
    with mlflow_errors_as_unavailable(registry):
        client, inventory = client_at(registry), MlflowInventory()
        with _unless_unknown():
            client.get_registered_model(model_name(dancer))
            inventory.model = True
        versions = client.search_model_versions(f"name = '{model_name(dancer)}'") if inventory.model else []
        inventory.versions = [str(version.version) for version in versions]
        ids = {version.run_id for version in versions}
        for run in _all_runs(client):
            name, active = run.info.run_name, run.info.lifecycle_stage == "active"
            if name == dancer or run.info.run_id in ids or (name == FORGOTTEN and active):
                inventory.runs.append(run)
                inventory.videos |= {uri for uri in run.data.tags.get("videos", "").split(", ") if uri}
            elif name == FORGOTTEN:
                inventory.deleted.append(run.info.run_id)
            elif PARENT_TAG not in run.data.tags:
                fleet = _read_fleet_file(client, run)
                if dancer in fleet.get("targets", {}):
                    inventory.fleets[run.info.run_id] = fleet
            elif (first := run.data.tags.get("first")) is not None:
                inventory.begun_with.setdefault(first, set()).add(name)
        return inventory


def remove_model(registry: str, dancer: str) -> None:
    """Delete the dancer's model with its versions, aliases and tags; its files are deleted with the runs.

    Raises RegistryUnavailable.
    """
    with mlflow_errors_as_unavailable(registry), _unless_unknown():
        client_at(registry).delete_registered_model(model_name(dancer))


def remove_runs(registry: str, dancer: str, inventory: MlflowInventory) -> None:
    """Delete artifacts, tags, names and then the runs, which MLflow only marks. Raises RegistryUnavailable."""
    with mlflow_errors_as_unavailable(registry):
        client = client_at(registry)
        for run_id, fleet in inventory.fleets.items():
            targets = {name: videos for name, videos in fleet["targets"].items() if name != dancer}
            client.log_text(run_id, json.dumps({**fleet, "targets": targets}, indent=2) + "\n", FLEET_FILE)
        for run in inventory.runs:
            _remove_run(client, registry, run)
            inventory.deleted.append(run.info.run_id)


def _remove_run(client: MlflowClient, registry: str, run: Run) -> None:
    run_id = run.info.run_id
    if run.info.lifecycle_stage == "deleted":
        # A deleted run cannot be modified.
        client.restore_run(run_id)
    get_artifact_repository(run.info.artifact_uri, registry, registry).delete_artifacts()
    for tag in run.data.tags:
        if not tag.startswith("mlflow.") and tag != KEY_TAG:
            client.delete_tag(run_id, tag)
    # Last: an interrupted deletion finds the run again by its name.
    client.update_run(run_id, name=FORGOTTEN)
    client.delete_run(run_id)


def find_reports(folder: Path, dancer: str) -> list[Path]:
    """Files about a dancer in an outbox's folder: records of the dancer's runs and reports that MLflow refused."""
    runs = [file for file in folder.glob("runs/*.json") if json.loads(file.read_text())["name"] == dancer]
    keys = {file.stem for file in runs}
    return runs + [file for file in folder.glob("refused/*.json") if _belongs_to(file, dancer, keys)]


def remove_reports(reports: list[Path]) -> None:
    """Delete the files in reverse order: the records of the runs tell which reports belong to the dancer."""
    for file in reversed(reports):
        shutil.rmtree(file.with_suffix(".files"), ignore_errors=True)
        file.unlink(missing_ok=True)


def _belongs_to(refused: Path, dancer: str, keys: set[str]) -> bool:
    report = json.loads(refused.read_text())
    fleet = refused.with_suffix(".files") / FLEET_FILE
    listed = fleet.exists() and dancer in json.loads(fleet.read_text()).get("targets", {})
    return report.get("run") in keys or report.get("dancer") == dancer or listed


def gc_runs(registry: str, run_ids: list[str]) -> None:
    """Run `mlflow gc` for deleted runs in a local SQLite database and rewrite the file.

    Raises RegistryUnavailable.
    """
    command = [sys.executable, "-m", "mlflow", "gc", "--backend-store-uri", registry, "--run-ids", ",".join(run_ids)]
    process = subprocess.run(
        command, env={**os.environ, "MLFLOW_TRACKING_URI": registry}, capture_output=True, text=True
    )
    if process.returncode:
        got = (process.stderr.strip().splitlines() or ["no message"])[-1]
        raise RegistryUnavailable("mlflow gc failed", file=without_password(registry), got=got)
    with closing(sqlite3.connect(registry.removeprefix("sqlite:///"))) as database:
        # Deleted rows remain in the file's free pages until then.
        database.execute("VACUUM")


def _all_runs(client: MlflowClient) -> Iterator[Run]:
    experiments = [experiment.experiment_id for experiment in client.search_experiments(ViewType.ALL)]
    token: str | None = ""
    while token is not None:
        page = client.search_runs(experiments, f"tags.`{KEY_TAG}` LIKE '%'", ViewType.ALL, _PAGE, page_token=token)
        yield from page
        token = page.token or None


def _read_fleet_file(client: MlflowClient, run: Run) -> dict[str, Any]:
    if FLEET_FILE not in {file.path for file in client.list_artifacts(run.info.run_id)}:
        return {}
    with TemporaryDirectory(prefix="dancedist-") as scratch:
        fleet: dict[str, Any] = json.loads(
            Path(client.download_artifacts(run.info.run_id, FLEET_FILE, scratch)).read_text()
        )
        return fleet


@contextmanager
def _unless_unknown() -> Iterator[None]:
    """Ignore MLflow's error for something that does not exist."""
    try:
        yield
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
