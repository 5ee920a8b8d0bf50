"""From the spool to MLflow, on one thread: in order, each as often as it takes, and a repetition changes nothing."""

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

from cluster.tracking.mlflow_client import FAULTS, TrackingRefused, first_line, is_refusal, shown
from cluster.tracking.outbox import Record, Spool
from cluster.tracking.registry import register
from cluster.tracking.runs import Runs
from dancedist.errors import FileInvalid

log = logging.getLogger("dancedist")
ASK_AGAIN_S = 5.0
# Metrics that wait are sent together, run by run.
RECORDS_AT_ONCE = 500


class Sender(threading.Thread):
    """Takes records off the spool until `stop`. `fault` is why MLflow cannot be reached now, None while it can.

    `versions`: what came of the records that register a dancer, by their numbers; None for a refused one.
    """

    def __init__(self, spool: Spool, uri: str, connect: Callable[[], tuple[MlflowClient, Runs]]) -> None:
        super().__init__(name="mlflow-sender", daemon=True)
        self._spool, self._uri, self._connect = spool, uri, connect
        self._stopping, self._news = threading.Event(), threading.Condition()
        self.fault: Exception | None = None
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
                elif len(self._spool):
                    self._send()
                self._tell(None)
            except (*FAULTS, TrackingRefused) as error:
                self._tell(error)
                self._stopping.wait(ASK_AGAIN_S)
            self._spool.wait_for_more(0.5)

    def stop(self) -> None:
        """Send no more; what is on its way may still arrive."""
        self._stopping.set()

    def wait_until(self, done: Callable[[], bool], timeout_s: float) -> bool:
        """Wait for something that sending brings about; looked at whenever something was sent, or could not be."""
        with self._news:
            return self._news.wait_for(lambda: done() or not self.is_alive(), timeout_s) and done()

    def _tell(self, fault: Exception | None) -> None:
        """One line when MLflow goes, one when it is back."""
        if fault is not None and self.fault is None:
            told = "reports are kept and sent when it is back; training goes on"
            log.warning("warning: MLflow at %s: %s (%s)", shown(self._uri), first_line(fault), told)
        elif fault is None and self.fault is not None:
            log.info("MLflow at %s is back; %d reports were kept for it", shown(self._uri), len(self._spool))
        with self._news:
            self.fault = fault
            self._news.notify_all()

    def _send(self) -> None:
        """The oldest record, or the oldest ones where they are metrics."""
        records = self._spool.head(RECORDS_AT_ONCE)
        batch = list(takewhile(lambda r: r.content.get("kind") == "metrics", records)) or records[:1]
        try:
            self._deliver(batch)
        except (MlflowException, requests.HTTPError, FileInvalid) as error:
            if not is_refusal(error):
                raise
            # It may be for a run that was deleted; or only one of them is at fault.
            self._runs.forget()
            self._send_singly(batch)
        else:
            for record in batch:
                self._spool.remove(record.number)

    def _send_singly(self, records: list[Record]) -> None:
        for record in records:
            try:
                self._deliver([record])
            except (MlflowException, requests.HTTPError, FileInvalid) as error:
                if not is_refusal(error):
                    raise
                aside = self._spool.set_aside(record.number)
                self.refused += 1
                self.versions[record.number] = None
                log.warning("warning: MLflow refuses a report, kept as %s: %s", aside, first_line(error))
            else:
                self._spool.remove(record.number)

    def _deliver(self, records: list[Record]) -> None:
        """Several records are all metrics."""
        record = records[0]
        match record.content:
            case {"kind": "metrics"}:
                self._deliver_metrics(records)
            case {"kind": "begin", "run": run}:
                self._runs.begin(run)
            case {"kind": "files", "run": run}:
                self._client.log_artifacts(self._runs.id_of(run), str(record.files))
            case {"kind": "dataset", "run": run, **what}:
                self._client.log_inputs(self._runs.id_of(run), [_dataset(**what)])
            case {"kind": "register", "run": run, **what}:
                number = register(self._client, self._runs.id_of(run), bundle=record.files, **what)
                self.versions[record.number] = number
            case {"kind": "finish", "run": run, **what}:
                self._finish(self._runs.id_of(run), **what)
            case _:
                raise FileInvalid("is no report", file=record.files.with_suffix(".json"))

    def _deliver_metrics(self, records: list[Record]) -> None:
        by_run: dict[str, list[Metric]] = {}
        for record in records:
            rows = record.content["rows"]
            by_run.setdefault(record.content["run"], []).extend(Metric(*row) for row in rows)
        for run, metrics in by_run.items():
            self._runs.log(run, metrics)

    def _finish(self, run_id: str, status: str, why: str, ended_ms: int) -> None:
        # Of a run that failed and then went well, the reason goes too.
        self._client.set_tag(run_id, "why", why)
        self._client.set_terminated(run_id, status, ended_ms)


def _dataset(name: str, sha256: str, poses_fingerprint: str) -> DatasetInput:
    # MLflow refuses a digest of more than 36 characters.
    data = Dataset(name, sha256[:36], "video", json.dumps({"sha256": sha256}))
    return DatasetInput(data, [InputTag("sha256", sha256), InputTag("poses_fingerprint", poses_fingerprint)])
