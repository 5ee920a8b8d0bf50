"""Runs in MLflow by keys of our own: a run is made once, however often and by whatever process it is begun."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Metric, Param, Run, RunTag, ViewType

from cluster.storage.base import local_errors
from dancedist.files import published

KEY_TAG = "dancedist.key"
# Of a fleet's run: its targets and their videos.
FLEET_FILE = "fleet.json"
PARENT_TAG = "mlflow.parentRunId"
# MLflow's own limits.
METRICS_AT_ONCE, PARAMS_AT_ONCE = 1000, 100


@dataclass(frozen=True)
class RunRecord:
    """What a run is made with, kept beside the spool: MLflow may be away, or another one by the time it is made."""

    name: str
    params: dict[str, str]
    tags: dict[str, str] = field(default_factory=dict)
    parent: str | None = None
    started_ms: int = 0


def run_key(*parts: str) -> str:
    """A key that fits file names and MLflow's filters."""
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]


def keep_run(folder: Path, key: str, record: RunRecord) -> RunRecord:
    """Note what a run is made with; one that was begun before keeps its start."""
    file = folder / f"{key}.json"
    started_ms = read_run(folder, key).started_ms if file.exists() else int(time.time() * 1000)
    record = RunRecord(record.name, record.params, record.tags, record.parent, started_ms)
    with local_errors(file), published(file) as partial:
        partial.write_text(json.dumps(asdict(record)))
    return record


def read_run(folder: Path, key: str) -> RunRecord:
    """What `keep_run` noted."""
    return RunRecord(**json.loads((folder / f"{key}.json").read_text()))


class Runs:
    """Runs of one experiment, found by key or made. For one thread; raises what MlflowClient does."""

    def __init__(self, client: MlflowClient, experiment_id: str, folder: Path) -> None:
        self._client, self._experiment_id, self._folder = client, experiment_id, folder
        self._ids: dict[str, str] = {}
        self._furthest: dict[str, dict[str, int]] = {}

    def id_of(self, key: str) -> str:
        """The MLflow run of a key, made with its record where there is none."""
        if key not in self._ids:
            found = self._found(key)
            self._ids[key] = self._made(key) if found is None else str(found.info.run_id)
            # The only place where MLflow gives the steps without every metric's whole history.
            last = [] if found is None else found.data._metric_objs
            self._furthest[key] = {metric.key: metric.step for metric in last}
        return self._ids[key]

    def begin(self, key: str) -> None:
        """Make the run, or let it run again; what changed of its params, which MLflow never changes, are tags."""
        run_id, record = self.id_of(key), read_run(self._folder, key)
        run = self._client.get_run(run_id)
        if run.info.status != "RUNNING":
            self._client.update_run(run_id, status="RUNNING")
        new = [Param(name, value) for name, value in record.params.items() if name not in run.data.params]
        changed = {k: v for k, v in record.params.items() if run.data.params.get(k, v) != v}
        tags = [RunTag(k, v) for k, v in record.tags.items()] + [RunTag(f"now.{k}", v) for k, v in changed.items()]
        self._client.log_batch(run_id, tags=tags)
        for start in range(0, len(new), PARAMS_AT_ONCE):
            self._client.log_batch(run_id, params=new[start : start + PARAMS_AT_ONCE])

    def log(self, key: str, metrics: list[Metric]) -> None:
        """Send metrics; none of a step that this metric has reached: a resumed training tells its last steps again."""
        run_id = self.id_of(key)
        furthest = dict(self._furthest[key])
        new = []
        for metric in metrics:
            if metric.step > furthest.get(metric.key, -1):
                furthest[metric.key] = metric.step
                new.append(metric)
        for start in range(0, len(new), METRICS_AT_ONCE):
            self._client.log_batch(run_id, metrics=new[start : start + METRICS_AT_ONCE])
        self._furthest[key] = furthest

    def forget(self) -> None:
        """Ask MLflow again: a run that was known may have been deleted."""
        self._ids.clear()

    def _found(self, key: str) -> Run | None:
        runs = self._client.search_runs([self._experiment_id], f"tags.`{KEY_TAG}` = '{key}'", ViewType.ACTIVE_ONLY)
        # A server that hung when it was asked for one may have made it later, and one more.
        runs.sort(key=lambda run: (-len(run.data.metrics), -len(run.data.params), run.info.run_id))
        for twin in runs[1:]:
            if not twin.data.metrics and not twin.data.params:
                self._client.delete_run(twin.info.run_id)
        return runs[0] if runs else None

    def _made(self, key: str) -> str:
        record = read_run(self._folder, key)
        tags = {**record.tags, KEY_TAG: key}
        if record.parent is not None:
            tags[PARENT_TAG] = self.id_of(record.parent)
        made = self._client.create_run(self._experiment_id, record.started_ms, tags, record.name)
        return str(made.info.run_id)


def flattened(plain: Mapping[str, Any], above: str = "") -> dict[str, str]:
    """`{"training": {"epochs": 5}}` as `{"training.epochs": "5"}`; cut to what MLflow takes."""
    flat: dict[str, str] = {}
    for key, value in plain.items():
        if isinstance(value, Mapping):
            flat |= flattened(value, f"{above}{key}.")
        else:
            flat[mlflow_name(above + key)] = (value if isinstance(value, str) else json.dumps(value))[:6000]
    return flat


def mlflow_name(name: str) -> str:
    """A name of letters, digits and what else MLflow allows in those of metrics and params."""
    return "".join(c if c.isascii() and (c.isalnum() or c in "_-. /") else "_" for c in name)[:250]
