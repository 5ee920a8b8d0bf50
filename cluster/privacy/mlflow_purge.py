"""What MLflow has of a person, and its removal as far as MLflow's API goes; `mlflow gc` does the rest."""

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

from cluster.tracking.mlflow_client import RegistryUnavailable, answering, client_at, shown
from cluster.tracking.registry import model_name
from cluster.tracking.runs import FLEET_FILE, KEY_TAG, PARENT_TAG

# What a run is called from then on, until `mlflow gc` removes it.
FORGOTTEN = "forgotten"
_PAGE = 1000


@dataclass
class Known:
    """Of one person: versions as `3`, her trainings' runs, those of fleets whose list of targets has her.

    `videos`: hers, as her runs tell; `begun_with`: names of others' runs by the bundle that they began with; `deleted`:
    ids of runs that wait for `mlflow gc`.
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
        """Trainings that have not ended, as far as MLflow knows."""
        return [run for run in self.runs if run.info.status == "RUNNING" and run.info.lifecycle_stage == "active"]


def find_known(registry: str, dancer: str) -> Known:
    """All that the MLflow at `registry` has of a dancer. Raises RegistryUnavailable."""
    if registry.startswith("sqlite:///") and not Path(registry.removeprefix("sqlite:///")).is_file():
        return Known()
    with answering(registry):
        client, known = client_at(registry), Known()
        with _unless_unknown():
            client.get_registered_model(model_name(dancer))
            known.model = True
        versions = client.search_model_versions(f"name = '{model_name(dancer)}'") if known.model else []
        known.versions = [str(version.version) for version in versions]
        ids = {version.run_id for version in versions}
        for run in _all_runs(client):
            name, active = run.info.run_name, run.info.lifecycle_stage == "active"
            if name == dancer or run.info.run_id in ids or (name == FORGOTTEN and active):
                known.runs.append(run)
                known.videos |= {uri for uri in run.data.tags.get("videos", "").split(", ") if uri}
            elif name == FORGOTTEN:
                known.deleted.append(run.info.run_id)
            elif PARENT_TAG not in run.data.tags:
                plain = _fleet_file(client, run)
                if dancer in plain.get("targets", {}):
                    known.fleets[run.info.run_id] = plain
            elif (first := run.data.tags.get("first")) is not None:
                known.begun_with.setdefault(first, set()).add(name)
        return known


def remove_model(registry: str, dancer: str) -> None:
    """Nobody can ask for the dancer any more. Versions, aliases and their tags go for good; their files with the runs.

    Raises RegistryUnavailable.
    """
    with answering(registry), _unless_unknown():
        client_at(registry).delete_registered_model(model_name(dancer))


def remove_runs(registry: str, dancer: str, known: Known) -> None:
    """Artifacts, tags and names go; the runs are deleted as MLflow does it. Raises RegistryUnavailable."""
    with answering(registry):
        client = client_at(registry)
        for run_id, plain in known.fleets.items():
            targets = {name: videos for name, videos in plain["targets"].items() if name != dancer}
            client.log_text(run_id, json.dumps({**plain, "targets": targets}, indent=2) + "\n", FLEET_FILE)
        for run in known.runs:
            _remove_run(client, registry, run)
            known.deleted.append(run.info.run_id)


def _remove_run(client: MlflowClient, registry: str, run: Run) -> None:
    run_id = run.info.run_id
    if run.info.lifecycle_stage == "deleted":
        # Of a deleted run nothing can be changed.
        client.restore_run(run_id)
    get_artifact_repository(run.info.artifact_uri, registry, registry).delete_artifacts()
    for tag in run.data.tags:
        if not tag.startswith("mlflow.") and tag != KEY_TAG:
            client.delete_tag(run_id, tag)
    # Last of all: by its name it is found again.
    client.update_run(run_id, name=FORGOTTEN)
    client.delete_run(run_id)


def find_reports(folder: Path, dancer: str) -> list[Path]:
    """What is kept of her in a spool's folder: what her runs were made with, and reports that MLflow refused."""
    runs = [file for file in folder.glob("runs/*.json") if json.loads(file.read_text())["name"] == dancer]
    keys = {file.stem for file in runs}
    return runs + [file for file in folder.glob("refused/*.json") if _is_of(file, dancer, keys)]


def remove_reports(reports: list[Path]) -> None:
    """The last first: which reports are hers is known from what her runs were made with."""
    for file in reversed(reports):
        shutil.rmtree(file.with_suffix(".files"), ignore_errors=True)
        file.unlink(missing_ok=True)


def _is_of(refused: Path, dancer: str, keys: set[str]) -> bool:
    plain = json.loads(refused.read_text())
    fleet = refused.with_suffix(".files") / FLEET_FILE
    listed = fleet.exists() and dancer in json.loads(fleet.read_text()).get("targets", {})
    return plain.get("run") in keys or plain.get("dancer") == dancer or listed


def collect(registry: str, run_ids: list[str]) -> None:
    """What deleted runs leave in an SQLite of this machine: as `mlflow gc`, and the file is written afresh.

    Raises RegistryUnavailable.
    """
    command = [sys.executable, "-m", "mlflow", "gc", "--backend-store-uri", registry, "--run-ids", ",".join(run_ids)]
    done = subprocess.run(command, env={**os.environ, "MLFLOW_TRACKING_URI": registry}, capture_output=True, text=True)
    if done.returncode:
        got = (done.stderr.strip().splitlines() or ["nothing"])[-1]
        raise RegistryUnavailable("mlflow gc failed", file=shown(registry), got=got)
    with closing(sqlite3.connect(registry.removeprefix("sqlite:///"))) as database:
        # Rows that were deleted are still in the file's free pages.
        database.execute("VACUUM")


def _all_runs(client: MlflowClient) -> Iterator[Run]:
    experiments = [found.experiment_id for found in client.search_experiments(ViewType.ALL)]
    token: str | None = ""
    while token is not None:
        page = client.search_runs(experiments, f"tags.`{KEY_TAG}` LIKE '%'", ViewType.ALL, _PAGE, page_token=token)
        yield from page
        token = page.token or None


def _fleet_file(client: MlflowClient, run: Run) -> dict[str, Any]:
    if FLEET_FILE not in {file.path for file in client.list_artifacts(run.info.run_id)}:
        return {}
    with TemporaryDirectory(prefix="dancedist-") as scratch:
        plain: dict[str, Any] = json.loads(
            Path(client.download_artifacts(run.info.run_id, FLEET_FILE, scratch)).read_text()
        )
        return plain


@contextmanager
def _unless_unknown() -> Iterator[None]:
    """Pass over MLflow's answer that there is no such thing."""
    try:
        yield
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
