"""Publisher: sends the outbox to MLflow on one thread, in order, with retries. Sending is idempotent."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable
from itertools import takewhile

import requests
from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric
from mlflow.exceptions import MlflowException

from cluster.tracking.mlflow_client import MLFLOW_ERRORS, TrackingRefused, first_line, is_permanent, without_password
from cluster.tracking.outbox import Outbox, OutboxRecord
from cluster.tracking.registry import register
from cluster.tracking.runs import Runs
from dancedist.errors import FileInvalid

log = logging.getLogger("dancedist")
RECONNECT_EVERY_S = 5.0
# Waiting metrics are sent as one batch per run.
RECORDS_AT_ONCE = 500


class Publisher(threading.Thread):
    """Sends records of the outbox until `stop`.

    `failure`: why MLflow cannot be reached now, None while it can; `versions`: registered version by number of the
    record, None for a refused one; `refused`: number of refused records.
    """

    def __init__(self, outbox: Outbox, uri: str, connect: Callable[[], tuple[MlflowClient, Runs]]) -> None:
        super().__init__(name="mlflow-publisher", daemon=True)
        self._outbox, self._uri, self._connect = outbox, uri, connect
        self._stopping, self._changed = threading.Event(), threading.Condition()
        self.failure: Exception | None = None
        self.connected = False
        self.refused = 0
        self.versions: dict[int, int | None] = {}

    def run(self) -> None:
        """See Thread."""
        while not self._stopping.is_set():
            try:
                if not self.connected:
                    self._client, self._runs = self._connect()
                    self.connected = True
                elif len(self._outbox):
                    self._send()
                self._set_failure(None)
            except (*MLFLOW_ERRORS, TrackingRefused) as error:
                self._set_failure(error)
                self._stopping.wait(RECONNECT_EVERY_S)
            self._outbox.wait_for_more(0.5)

    def stop(self) -> None:
        """Stop sending; a request in progress may still complete."""
        self._stopping.set()

    def wait_until(self, done: Callable[[], bool], timeout_s: float) -> bool:
        """Wait at most `timeout_s` until `done`, which is checked after every attempt to send; return whether it is."""
        with self._changed:
            return self._changed.wait_for(lambda: done() or not self.is_alive(), timeout_s) and done()

    def _set_failure(self, failure: Exception | None) -> None:
        """Log one line when MLflow becomes unreachable and one when it is back."""
        if failure is not None and self.failure is None:
            consequence = "training continues; reports are stored and sent when it is back"
            log.warning("warning: MLflow at %s: %s (%s)", without_password(self._uri), first_line(failure), consequence)
        elif failure is None and self.failure is not None:
            log.info("MLflow at %s is back; sending %d stored reports", without_password(self._uri), len(self._outbox))
        with self._changed:
            self.failure = failure
            self._changed.notify_all()

    def _send(self) -> None:
        """Send the oldest record, or a batch of the oldest ones if they are all metrics."""
        records = self._outbox.head(RECORDS_AT_ONCE)
        batch = list(takewhile(lambda r: r.content.get("kind") == "metrics", records)) or records[:1]
        try:
            self._deliver(batch)
        except (MlflowException, requests.HTTPError, FileInvalid) as error:
            if not is_permanent(error):
                raise
            # The run may have been deleted, or only one record of the batch is invalid.
            self._runs.forget()
            self._send_singly(batch)
        else:
            for record in batch:
                self._outbox.remove(record.number)

    def _send_singly(self, records: list[OutboxRecord]) -> None:
        for record in records:
            try:
                self._deliver([record])
            except (MlflowException, requests.HTTPError, FileInvalid) as error:
                if not is_permanent(error):
                    raise
                aside = self._outbox.set_aside(record.number)
                self.refused += 1
                self.versions[record.number] = None
                log.warning("warning: MLflow refused a report, stored as %s: %s", aside, first_line(error))
            else:
                self._outbox.remove(record.number)

    def _deliver(self, records: list[OutboxRecord]) -> None:
        """Send one record, or several that are all metrics."""
        record = records[0]
        match record.content:
            case {"kind": "metrics"}:
                self._deliver_metrics(records)
            case {"kind": "begin", "run": run}:
                self._runs.begin(run)
            case {"kind": "files", "run": run}:
                self._client.log_artifacts(self._runs.id_of(run), str(record.files))
            case {"kind": "dataset", "run": run, **fields}:
                self._client.log_inputs(self._runs.id_of(run), [_dataset(**fields)])
            case {"kind": "register", "run": run, **fields}:
                number = register(self._client, self._runs.id_of(run), bundle=record.files, **fields)
                self.versions[record.number] = number
            case {"kind": "finish", "run": run, **fields}:
                self._finish(self._runs.id_of(run), **fields)
            case _:
                raise FileInvalid("is not a valid report", file=record.files.with_suffix(".json"))

    def _deliver_metrics(self, records: list[OutboxRecord]) -> None:
        by_run: dict[str, list[Metric]] = {}
        for record in records:
            rows = record.content["rows"]
            by_run.setdefault(record.content["run"], []).extend(Metric(*row) for row in rows)
        for run, metrics in by_run.items():
            self._runs.log(run, metrics)

    def _finish(self, run_id: str, status: str, why: str, ended_ms: int) -> None:
        # Also clears the reason of an earlier failure.
        self._client.set_tag(run_id, "why", why)
        self._client.set_terminated(run_id, status, ended_ms)


def _dataset(name: str, sha256: str, poses_fingerprint: str) -> DatasetInput:
    # MLflow refuses a digest of more than 36 characters.
    data = Dataset(name, sha256[:36], "video", json.dumps({"sha256": sha256}))
    return DatasetInput(data, [InputTag("sha256", sha256), InputTag("poses_fingerprint", poses_fingerprint)])
