"""MLflow runs by our own keys: a run is created once, even if several processes start it again."""

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

from cluster.storage.base import os_errors_as_unavailable
from dancedist.files import atomic_write

KEY_TAG = "dancedist.key"
# Artifact of a fleet's run: its targets and their videos.
FLEET_FILE = "fleet.json"
PARENT_TAG = "mlflow.parentRunId"
# MLflow's own limits.
METRICS_AT_ONCE, PARAMS_AT_ONCE = 1000, 100


@dataclass(frozen=True)
class RunRecord:
    """Data to create a run with, stored next to the outbox: MLflow may be down, or replaced, until it is created."""

    name: str
    params: dict[str, str]
    tags: dict[str, str] = field(default_factory=dict)
    parent: str | None = None
    started_ms: int = 0


def run_key(*parts: str) -> str:
    """Hash the parts to a key that is valid in file names and MLflow filters."""
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]


def save_run(folder: Path, key: str, record: RunRecord) -> RunRecord:
    """Store a run's record and return it; a run that was started before keeps its start time."""
    file = folder / f"{key}.json"
    started_ms = read_run(folder, key).started_ms if file.exists() else int(time.time() * 1000)
    record = RunRecord(record.name, record.params, record.tags, record.parent, started_ms)
    with os_errors_as_unavailable(file), atomic_write(file) as partial:
        partial.write_text(json.dumps(asdict(record)))
    return record


def read_run(folder: Path, key: str) -> RunRecord:
    """Read the record that `save_run` stored."""
    return RunRecord(**json.loads((folder / f"{key}.json").read_text()))


class Runs:
    """Runs of one experiment, found by key or created. Not thread-safe; raises what MlflowClient raises."""

    def __init__(self, client: MlflowClient, experiment_id: str, folder: Path) -> None:
        self._client, self._experiment_id, self._folder = client, experiment_id, folder
        self._ids: dict[str, str] = {}
        self._last_steps: dict[str, dict[str, int]] = {}

    def id_of(self, key: str) -> str:
        """Return the MLflow run id of a key; create the run from its record if there is none."""
        if key not in self._ids:
            run = self._find(key)
            self._ids[key] = self._create(key) if run is None else str(run.info.run_id)
            # MLflow offers the last steps nowhere else without the complete history of every metric.
            last_metrics = [] if run is None else run.data._metric_objs
            self._last_steps[key] = {metric.key: metric.step for metric in last_metrics}
        return self._ids[key]

    def begin(self, key: str) -> None:
        """Create the run, or set it to RUNNING again. Changed params become tags: MLflow params are immutable."""
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
        """Log metrics; skip steps that a metric has already: a resumed training repeats its last steps."""
        run_id = self.id_of(key)
        last_steps = dict(self._last_steps[key])
        new = []
        for metric in metrics:
            if metric.step > last_steps.get(metric.key, -1):
                last_steps[metric.key] = metric.step
                new.append(metric)
        for start in range(0, len(new), METRICS_AT_ONCE):
            self._client.log_batch(run_id, metrics=new[start : start + METRICS_AT_ONCE])
        self._last_steps[key] = last_steps

    def forget(self) -> None:
        """Clear the cache of run ids: a cached run may have been deleted."""
        self._ids.clear()

    def _find(self, key: str) -> Run | None:
        runs = self._client.search_runs([self._experiment_id], f"tags.`{KEY_TAG}` = '{key}'", ViewType.ACTIVE_ONLY)
        # A request that timed out may still have created a run, and its retry another one.
        runs.sort(key=lambda run: (-len(run.data.metrics), -len(run.data.params), run.info.run_id))
        for duplicate in runs[1:]:
            if not duplicate.data.metrics and not duplicate.data.params:
                self._client.delete_run(duplicate.info.run_id)
        return runs[0] if runs else None

    def _create(self, key: str) -> str:
        record = read_run(self._folder, key)
        tags = {**record.tags, KEY_TAG: key}
        if record.parent is not None:
            tags[PARENT_TAG] = self.id_of(record.parent)
        run = self._client.create_run(self._experiment_id, record.started_ms, tags, record.name)
        return str(run.info.run_id)


def flatten(plain: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Flatten `{"training": {"epochs": 5}}` to `{"training.epochs": "5"}`, truncated to MLflow's limits."""
    flat: dict[str, str] = {}
    for key, value in plain.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[mlflow_name(prefix + key)] = (value if isinstance(value, str) else json.dumps(value))[:6000]
    return flat


def mlflow_name(name: str) -> str:
    """Replace characters that MLflow does not allow in names of metrics and params."""
    return "".join(c if c.isascii() and (c.isalnum() or c in "_-. /") else "_" for c in name)[:250]
