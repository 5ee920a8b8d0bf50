"""Reports to a real server that dies, hangs and comes back: all arrive exactly once."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run

from cluster.tracking.mlflow_client import TrackingRefused, client_at
from cluster.tracking.registry import fetch_dancer, find_dancer
from cluster.tracking.tracker import open_tracker
from dancedist.bundle.bundle import load_bundle
from dancedist.recipe.schema import Recipe
from tests.support.mlflow_server import MlflowServer
from tests.unit.dancedist.bundle.test_bundle import make_bundle

pytestmark = pytest.mark.cluster
CONSENT = {"who": "Ann", "when": "2026-01-02", "reference": "letter 7"}


@pytest.fixture
def server(mlflow_server: MlflowServer, monkeypatch: pytest.MonkeyPatch) -> MlflowServer:
    """An experiment of its own in the one server."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow_server.uri)
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", uuid4().hex)
    monkeypatch.setattr("cluster.tracking.publisher.RECONNECT_EVERY_S", 0.5)
    return mlflow_server


@pytest.fixture
def bundle(tmp_path: Path, tiny_recipe: Recipe) -> Path:
    make_bundle(tmp_path / "bundle", tiny_recipe)
    return tmp_path / "bundle"


def runs_of(server: MlflowServer) -> dict[str, Run]:
    client = client_at(server.uri)
    experiment = client.get_experiment_by_name(os.environ["MLFLOW_EXPERIMENT_NAME"])
    runs = client.search_runs([experiment.experiment_id])
    found = {run.info.run_name: run for run in runs}
    assert len(found) == len(runs), "a run exists twice"
    return found


def history(client: MlflowClient, run: Run, key: str) -> list[tuple[int, float]]:
    return [(m.step, m.value) for m in client.get_metric_history(run.info.run_id, key)]


def test_a_killed_server_receives_everything_later(
    server: MlflowServer, bundle: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "dancedist")
    name, picture = f"ann-{uuid4().hex[:8]}", tmp_path / "sample.png"
    picture.write_bytes(b"png")
    tracking = open_tracker(str(tmp_path / "store"), nodes=3)
    fleet = tracking.begin_fleet("fleet", "fleet", {"targets": 1})
    run = fleet.begin_target(name, "k", {"training": {"epochs": 5}}, {"fingerprint": "f"})
    for step in range(40):
        run.metrics([{"step": step, "loss": step / 2}])
    server.kill()
    slowest_s = 0.0
    for step in range(40, 80):
        started = time.monotonic()
        run.metrics([{"step": step, "loss": step / 2}])
        slowest_s = max(slowest_s, time.monotonic() - started)
    run.artifact(picture, "samples/40.png")
    run.dataset("v.mp4", "ab" * 32, "poses")
    started = time.monotonic()
    assert run.register(bundle, "fp", {"body_lpips": 0.03}, CONSENT) is None
    unanswered_s = time.monotonic() - started
    run.finish("FINISHED")
    fleet.finish("FINISHED")
    time.sleep(2)
    server.start()
    assert tracking.close(60) == 0

    assert slowest_s < 0.5
    assert unanswered_s < 10
    assert run.version == 1
    runs, client = runs_of(server), client_at(server.uri)
    assert set(runs) == {"fleet", name}
    child = runs[name]
    assert history(client, child, "loss") == [(step, step / 2) for step in range(80)]
    assert child.data.tags["mlflow.parentRunId"] == runs["fleet"].info.run_id
    assert {run.info.status for run in runs.values()} == {"FINISHED"}
    assert [f.path for f in client.list_artifacts(child.info.run_id, "samples")] == ["samples/40.png"]
    assert [d.dataset.name for d in child.inputs.dataset_inputs] == ["v.mp4"]
    version = find_dancer(f"models:/dancer-{name}@champion", server.uri)
    assert version.tags["consent.reference"] == "letter 7"
    fetched = fetch_dancer(f"models:/dancer-{name}@candidate", tmp_path / "got", str(tmp_path))
    assert load_bundle(fetched).dancer == load_bundle(bundle).dancer
    warnings = [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]
    assert len(warnings) == 1, warnings
    assert "stored" in warnings[0]


def test_a_hanging_server_does_not_block_reports(
    server: MlflowServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "2")
    tracking = open_tracker(str(tmp_path))
    fleet = tracking.begin_fleet("fleet", "fleet", {})
    fleet.metrics([{"step": 0, "loss": 0.0}])
    assert tracking.publisher.wait_until(lambda: not len(tracking.outbox), 30)
    server.pause()
    try:
        started = time.monotonic()
        # A server that continues later could create a run twice.
        run = fleet.begin_target("ann", "k", {})
        run.metrics([{"step": 1, "loss": 1.0}])
        assert time.monotonic() - started < 1
        time.sleep(6)
        assert tracking.publisher.failure is not None
    finally:
        server.resume()
    assert tracking.close(60) == 0
    again = open_tracker(str(tmp_path))
    again.begin_fleet("fleet", "fleet", {}).begin_target("ann", "k", {}).metrics([{"step": 2, "loss": 2.0}])
    assert again.close(60) == 0
    runs = runs_of(server)
    assert history(client_at(server.uri), runs["ann"], "loss") == [(1, 1.0), (2, 2.0)]


def test_close_is_bounded_and_the_next_process_sends_the_rest(server: MlflowServer, tmp_path: Path) -> None:
    server.kill()
    try:
        tracking = open_tracker(str(tmp_path))
        run = tracking.begin_fleet("fleet", "fleet", {"n": 1}).begin_target("ann", "k", {"a": 1})
        run.metrics([{"step": s, "loss": 1.0} for s in range(5)])
        started = time.monotonic()
        remaining = tracking.close(2)
        assert time.monotonic() - started < 5
        assert remaining == 5  # two runs, their two files, one report of metrics
    finally:
        server.start()
    assert open_tracker(str(tmp_path)).close(60) == 0
    runs = runs_of(server)
    assert set(runs) == {"fleet", "ann"}
    assert len(history(client_at(server.uri), runs["ann"], "loss")) == 5


DRIVER = """
import sys
from cluster.tracking.tracker import open_tracker
tracking = open_tracker(sys.argv[1])
run = tracking.begin_fleet("fleet", "fleet", {}).begin_target("ann", "k", {"a": 1})
for step in range(int(sys.argv[2]), 100000):
    run.metrics([{"step": step, "loss": step}])
    print(step, flush=True)
"""


def test_a_killed_driver_loses_nothing_and_repeats_nothing(server: MlflowServer, tmp_path: Path) -> None:
    printed = -1
    for kill_after in (50, 400, 150):
        # Like a resumed training, it repeats its last steps.
        command = [sys.executable, "-c", DRIVER, str(tmp_path), str(max(0, printed - 20))]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            for count, line in enumerate(process.stdout):
                printed = int(line)
                if count == kill_after:
                    process.send_signal(signal.SIGKILL)
    assert open_tracker(str(tmp_path)).close(60) == 0
    runs = runs_of(server)
    assert set(runs) == {"fleet", "ann"}
    steps = [step for step, _ in history(client_at(server.uri), runs["ann"], "loss")]
    assert len(steps) == len(set(steps))
    # The step that was being written when it was killed may exist too.
    assert sorted(steps)[: printed + 1] == list(range(printed + 1))
    assert len(steps) <= printed + 2


@pytest.fixture(scope="module")
def local_artifacts() -> Iterator[MlflowServer]:
    server = MlflowServer("--no-serve-artifacts", "--default-artifact-root", "./mlruns")
    yield server
    server.close()


def test_artifacts_on_one_nodes_disk_are_refused(
    local_artifacts: MlflowServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", local_artifacts.uri)
    with pytest.raises(TrackingRefused, match="--artifacts-destination"):
        open_tracker(str(tmp_path), nodes=2)
