"""Tracking of a fleet in MLflow: a run for the fleet, a child run for each target. Only the fleet's driver reports.

Reports do not wait for MLflow: they are stored on disk in order, and one thread sends them as soon as MLflow answers:
now, after an outage, or in the next process that opens the same storage.
"""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

from mlflow import MlflowClient

from cluster.storage.download_cache import cache_folder
from cluster.tracking.mlflow_client import TrackingRefused, client_at, experiment_id, local_folder, tracking_uri
from cluster.tracking.outbox import Outbox
from cluster.tracking.publisher import Publisher
from cluster.tracking.runs import FLEET_FILE, RunRecord, Runs, flatten, mlflow_name, run_key, save_run
from cluster.tracking.system_metrics import SystemMetrics

log = logging.getLogger("dancedist")
# Long enough for a server to report its artifact location.
ANSWER_WITHIN_S = 15.0

Status = Literal["FINISHED", "FAILED", "KILLED"]


def open_tracker(storage_uri: str, nodes: int = 1) -> Tracker:
    """Open MLflow at $MLFLOW_TRACKING_URI, or SQLite and files in `storage_uri`/mlflow.

    Raises TrackingRefused if this cannot work: a database or artifacts on one machine's disk for several nodes, a
    bucket without a server, or another process that reports from the same storage.
    """
    uri = tracking_uri(storage_uri, nodes)
    home = local_folder(storage_uri) if uri.startswith("sqlite:") else None
    folder = outbox_folder(storage_uri)
    try:
        outbox = Outbox(folder)
    except BlockingIOError:
        raise TrackingRefused("is in use by another process that reports from this storage", file=folder) from None
    tracker = Tracker(outbox, uri, partial(_connect, uri, home, nodes, folder / "runs"))
    if nodes > 1:
        tracker.require_shared()
    return tracker


def outbox_folder(storage_uri: str) -> Path:
    """Folder of the outbox: next to the storage's MLflow; for a bucket, in this machine's $DANCEDIST_CACHE."""
    if storage_uri.startswith("s3://"):
        return cache_folder("mlflow") / hashlib.sha256(storage_uri.encode()).hexdigest()[:16]
    return local_folder(storage_uri) / "spool"


def _connect(uri: str, home: Path | None, nodes: int, folder: Path) -> tuple[MlflowClient, Runs]:
    client = client_at(uri)
    return client, Runs(client, experiment_id(client, home, nodes), folder)


class Tracker:
    """The driver's connection to MLflow. Its methods and those of its runs are thread-safe."""

    def __init__(self, outbox: Outbox, uri: str, connect: partial[tuple[MlflowClient, Runs]]) -> None:
        self.uri, self.outbox = uri, outbox
        self._system_metrics: list[SystemMetrics] = []
        if len(outbox):
            log.info("sending %d stored reports of an earlier run to MLflow", len(outbox))
        self.publisher = Publisher(outbox, uri, connect)
        self.publisher.start()

    def begin_fleet(
        self, key: str, name: str, params: Mapping[str, Any], targets: Mapping[str, Sequence[str]] | None = None
    ) -> FleetRun:
        """Start the fleet's run, or continue the one with this key. `params` may be nested; fleet.json has all of them.

        Targets and their videos are in fleet.json only: MLflow params cannot be deleted later.
        """
        json_artifacts: dict[str, Mapping[str, Any]] = {FLEET_FILE: {**params, "targets": targets or {}}}
        run = FleetRun(self, run_key(key), RunRecord(name, flatten(params)), json_artifacts)
        system_metrics = SystemMetrics(run.metrics, run.started_s)
        system_metrics.start()
        self._system_metrics.append(system_metrics)
        return run

    def close(self, timeout_s: float = 30.0) -> int:
        """Wait at most `timeout_s` until all reports are sent; return how many remain for the next process."""
        for system_metrics in self._system_metrics:
            system_metrics.stop()
        self.publisher.wait_until(lambda: not len(self.outbox), timeout_s)
        self.publisher.stop()
        remaining = len(self.outbox)
        if remaining:
            log.warning(
                "warning: %d reports to MLflow were not sent; they are stored in %s for the next run",
                remaining,
                self.outbox.folder,
            )
        self.publisher.join(1.0)
        if not self.publisher.is_alive():
            self.outbox.close()
        return remaining

    def require_shared(self) -> None:
        """Raise TrackingRefused if MLflow stores artifacts on one machine's disk."""
        self.publisher.wait_until(
            lambda: self.publisher.connected or self.publisher.failure is not None, ANSWER_WITHIN_S
        )
        if isinstance(self.publisher.failure, TrackingRefused):
            self.close(0.0)
            raise self.publisher.failure


class _Run:
    """A run under our own key. Files passed to it may be replaced afterwards, but not modified in place."""

    def __init__(
        self, tracker: Tracker, key: str, record: RunRecord, json_artifacts: dict[str, Mapping[str, Any]]
    ) -> None:
        self._tracker, self.key = tracker, key
        self.started_s = save_run(tracker.outbox.folder / "runs", key, record).started_ms / 1000
        self._enqueue("begin")
        for name, params in json_artifacts.items():
            self.text_artifact(json.dumps(params, indent=2, default=str) + "\n", name)

    def metrics(self, rows: Iterable[Mapping[str, float]]) -> None:
        """Log rows of values by name, each with `step` and optionally `time` (seconds since 1970; default: now).

        Steps of a metric must increase; steps repeated after a resume are ignored.
        """
        now_s = time.time()
        points = [
            (mlflow_name(name), float(value), int(row.get("time", now_s) * 1000), int(row["step"]))
            for row in rows
            for name, value in row.items()
            if name not in ("step", "time")
        ]
        if points:
            self._enqueue("metrics", rows=points)

    def artifact(self, path: Path, name: str) -> None:
        """Log a file as the artifact `name`, which may contain folders."""
        self._enqueue("files", {name: path})

    def text_artifact(self, text: str, name: str) -> None:
        """Log text as the artifact `name`."""
        self._enqueue("files", {name: text})

    def finish(self, status: Status, why: str = "") -> None:
        """Set the final status; starting the run again sets it back to RUNNING."""
        self._enqueue("finish", status=status, why=why, ended_ms=int(time.time() * 1000))

    def _enqueue(self, kind: str, files: Mapping[str, Path | str] | None = None, **content: Any) -> int:
        return self._tracker.outbox.append({"kind": kind, "run": self.key, **content}, files)


class FleetRun(_Run):
    """The parent run of a fleet."""

    def begin_target(
        self, name: str, key: str, params: Mapping[str, Any], tags: Mapping[str, str] | None = None
    ) -> TargetRun:
        """Start a target's run, or continue the one with this key; `params`: resolved recipe, also in recipe.json."""
        record = RunRecord(name, flatten(params), dict(tags or {}), self.key)
        return TargetRun(self._tracker, run_key(self.key, key), record, {"recipe.json": params}, name)


class TargetRun(_Run):
    """A child run: one dancer's training."""

    def __init__(
        self, tracker: Tracker, key: str, record: RunRecord, json_artifacts: dict[str, Mapping[str, Any]], dancer: str
    ) -> None:
        super().__init__(tracker, key, record, json_artifacts)
        self._dancer = dancer
        self._register_number: int | None = None

    def dataset(self, name: str, sha256: str, poses_fingerprint: str) -> None:
        """Log a video that the target is trained on."""
        self._enqueue("dataset", name=name, sha256=sha256, poses_fingerprint=poses_fingerprint)

    def register(
        self,
        bundle: Path,
        fingerprint: str,
        metrics: Mapping[str, float],
        consent: Mapping[str, str],
        within_s: float = 60.0,
    ) -> int | None:
        """Register the bundle as a version of `dancer-NAME`, or find the version with this fingerprint.

        Returns the version; None if MLflow does not answer `within_s` seconds: the version is created once it does.
        """
        files = {path.name: path for path in bundle.iterdir() if path.is_file()}
        fields = {"dancer": self._dancer, "fingerprint": fingerprint, "metrics": {**metrics}, "consent": {**consent}}
        number = self._register_number = self._enqueue("register", files, **fields)
        publisher = self._tracker.publisher
        publisher.wait_until(lambda: number in publisher.versions or publisher.failure is not None, within_s)
        return self.version

    @property
    def version(self) -> int | None:
        """Version that `register` created; None if it is not known yet."""
        return None if self._register_number is None else self._tracker.publisher.versions.get(self._register_number)
