"""A fleet in MLflow: a run for the fleet, a child for each target. The fleet's driver alone reports.

Nothing here waits for MLflow. Every report is first kept on disk, in order; one thread sends what is kept, as soon as
MLflow answers: now, after an outage, or in the next process that opens the same storage.
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
from cluster.tracking.mlflow_client import TrackingRefused, client_at, experiment_id, local_home, tracking_uri
from cluster.tracking.outbox import Spool
from cluster.tracking.publisher import Sender
from cluster.tracking.runs import FLEET_FILE, RunRecord, Runs, flattened, keep_run, mlflow_name, run_key
from cluster.tracking.system_metrics import Vitals

log = logging.getLogger("dancedist")
# Long enough for a server to say where it keeps artifacts.
ANSWER_WITHIN_S = 15.0

Status = Literal["FINISHED", "FAILED", "KILLED"]


def open_tracking(storage_uri: str, nodes: int = 1) -> Tracking:
    """MLflow at $MLFLOW_TRACKING_URI, or SQLite and files in `storage_uri`/mlflow.

    Raises TrackingRefused where this cannot work: a database or artifacts on one machine's disk for several nodes, a
    bucket without a server, or another process that reports from the same storage.
    """
    uri = tracking_uri(storage_uri, nodes)
    home = local_home(storage_uri) if uri.startswith("sqlite:") else None
    folder = spool_folder(storage_uri)
    try:
        spool = Spool(folder)
    except BlockingIOError:
        raise TrackingRefused("another process reports from this storage", file=folder) from None
    tracking = Tracking(spool, uri, partial(_connect, uri, home, nodes, folder / "runs"))
    if nodes > 1:
        tracking.require_shared()
    return tracking


def spool_folder(storage_uri: str) -> Path:
    """Where reports wait: beside the storage's MLflow; for a bucket on this machine, in $DANCEDIST_CACHE."""
    if storage_uri.startswith("s3://"):
        return cache_folder("mlflow") / hashlib.sha256(storage_uri.encode()).hexdigest()[:16]
    return local_home(storage_uri) / "spool"


def _connect(uri: str, home: Path | None, nodes: int, folder: Path) -> tuple[MlflowClient, Runs]:
    client = client_at(uri)
    return client, Runs(client, experiment_id(client, home, nodes), folder)


class Tracking:
    """The driver's door to MLflow. Its methods, and those of its runs, may be called from any thread."""

    def __init__(self, spool: Spool, uri: str, connect: partial[tuple[MlflowClient, Runs]]) -> None:
        self.uri, self.spool = uri, spool
        self._vitals: list[Vitals] = []
        if len(spool):
            log.info("%d reports of an earlier run are still to be sent to MLflow", len(spool))
        self.sender = Sender(spool, uri, connect)
        self.sender.start()

    def begin_fleet(
        self, key: str, name: str, params: Mapping[str, Any], targets: Mapping[str, Sequence[str]] | None = None
    ) -> FleetRun:
        """The fleet's run; the same key goes on with it. `params` may be nested; fleet.json has them whole.

        It alone has the targets and their videos: what is a parameter in MLflow cannot be taken out again.
        """
        whole: dict[str, Mapping[str, Any]] = {FLEET_FILE: {**params, "targets": targets or {}}}
        run = FleetRun(self, run_key(key), RunRecord(name, flattened(params)), whole)
        vitals = Vitals(run.metrics, run.started_s)
        vitals.start()
        self._vitals.append(vitals)
        return run

    def close(self, timeout_s: float = 30.0) -> int:
        """Wait until all is sent, for `timeout_s` at most; returns how many reports are left for the next process."""
        for vitals in self._vitals:
            vitals.stop()
        self.sender.wait_until(lambda: not len(self.spool), timeout_s)
        self.sender.stop()
        left = len(self.spool)
        if left:
            log.warning("warning: %d reports to MLflow are kept in %s for the next run", left, self.spool.folder)
        self.sender.join(1.0)
        if not self.sender.is_alive():
            self.spool.close()
        return left

    def require_shared(self) -> None:
        """Raise TrackingRefused where MLflow says that it keeps artifacts on one machine's disk."""
        self.sender.wait_until(lambda: self.sender.connected or self.sender.fault is not None, ANSWER_WITHIN_S)
        if isinstance(self.sender.fault, TrackingRefused):
            self.close(0.0)
            raise self.sender.fault


class _Run:
    """A run under a key of ours. Files that are handed over may be replaced afterwards, not altered in place."""

    def __init__(self, tracking: Tracking, key: str, record: RunRecord, whole: dict[str, Mapping[str, Any]]) -> None:
        self._tracking, self.key = tracking, key
        self.started_s = keep_run(tracking.spool.folder / "runs", key, record).started_ms / 1000
        self._keep("begin")
        for name, params in whole.items():
            self.text(json.dumps(params, indent=2, default=str) + "\n", name)

    def metrics(self, rows: Iterable[Mapping[str, float]]) -> None:
        """Numbers by name, each row with its `step` and, if it is not now, its `time` (s since 1970).

        A metric is told in the order of its steps: what comes again after a resume changes nothing.
        """
        now_s = time.time()
        told = [
            (mlflow_name(name), float(value), int(row.get("time", now_s) * 1000), int(row["step"]))
            for row in rows
            for name, value in row.items()
            if name not in ("step", "time")
        ]
        if told:
            self._keep("metrics", rows=told)

    def picture(self, path: Path, name: str) -> None:
        """A file of any kind as the artifact `name`, which may have folders in it."""
        self._keep("files", {name: path})

    def text(self, text: str, name: str) -> None:
        """A text file as the artifact `name`."""
        self._keep("files", {name: text})

    def finish(self, status: Status, why: str = "") -> None:
        """How it ended; beginning it again lets it run again."""
        self._keep("finish", status=status, why=why, ended_ms=int(time.time() * 1000))

    def _keep(self, kind: str, files: Mapping[str, Path | str] | None = None, **content: Any) -> int:
        return self._tracking.spool.append({"kind": kind, "run": self.key, **content}, files)


class FleetRun(_Run):
    """The parent run."""

    def begin_target(
        self, name: str, key: str, params: Mapping[str, Any], tags: Mapping[str, str] | None = None
    ) -> TargetRun:
        """A target's run, the same for the same key; `params`: the resolved recipe, whole in recipe.json."""
        record = RunRecord(name, flattened(params), dict(tags or {}), self.key)
        return TargetRun(self._tracking, run_key(self.key, key), record, {"recipe.json": params}, name)


class TargetRun(_Run):
    """A child run: one dancer's training."""

    def __init__(
        self, tracking: Tracking, key: str, record: RunRecord, whole: dict[str, Mapping[str, Any]], dancer: str
    ) -> None:
        super().__init__(tracking, key, record, whole)
        self._dancer = dancer
        self._registering: int | None = None

    def dataset(self, name: str, sha256: str, poses_fingerprint: str) -> None:
        """A video that it is trained on."""
        self._keep("dataset", name=name, sha256=sha256, poses_fingerprint=poses_fingerprint)

    def register(
        self,
        bundle: Path,
        fingerprint: str,
        metrics: Mapping[str, float],
        consent: Mapping[str, str],
        within_s: float = 60.0,
    ) -> int | None:
        """Make the bundle a version of `dancer-NAME`, with these tags; the one with this fingerprint if there is one.

        Returns the version, None where MLflow does not answer `within_s`: it is kept, and made when MLflow does.
        """
        files = {path.name: path for path in bundle.iterdir() if path.is_file()}
        what = {"dancer": self._dancer, "fingerprint": fingerprint, "metrics": {**metrics}, "consent": {**consent}}
        number = self._registering = self._keep("register", files, **what)
        sender = self._tracking.sender
        sender.wait_until(lambda: number in sender.versions or sender.fault is not None, within_s)
        return self.version

    @property
    def version(self) -> int | None:
        """What `register` made, as far as is known by now."""
        return None if self._registering is None else self._tracking.sender.versions.get(self._registering)
