"""Reports and the registry on SQLite and files, without a server."""

from __future__ import annotations

import json
import logging
import math
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run

from cluster.tracking import registry
from cluster.tracking.mlflow_client import RegistryUnavailable, TrackingRefused, client_at, experiment_id, tracking_uri
from cluster.tracking.registry import DancerUnknown, fetch_dancer, find_dancer, move_champion
from cluster.tracking.runs import flatten
from cluster.tracking.tracker import FleetRun, Tracker, open_tracker
from dancedist.bundle.bundle import load_bundle
from dancedist.errors import FileInvalid
from dancedist.recipe.schema import Recipe
from tests.unit.dancedist.bundle.test_bundle import make_bundle

CONSENT = {"who": "Ann", "when": "2026-01-02", "reference": "letter 7"}


@pytest.fixture(scope="module", autouse=True)
def storage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """One database for all tests: creating it takes seconds."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME"):
            patch.delenv(name, raising=False)
        # With a space, as it becomes part of URIs.
        yield str(tmp_path_factory.mktemp("the store"))


@pytest.fixture
def tracking(storage: str) -> Iterator[Tracker]:
    opened = open_tracker(storage)
    yield opened
    opened.close(0)


@pytest.fixture
def fleet(tracking: Tracker, request: pytest.FixtureRequest) -> FleetRun:
    return tracking.begin_fleet(request.node.name, "fleet", {"targets": ["ann"]})


@pytest.fixture
def bundle(tmp_path: Path, tiny_recipe: Recipe) -> Path:
    make_bundle(tmp_path / "bundle", tiny_recipe)
    return tmp_path / "bundle"


def client(storage: str) -> MlflowClient:
    return client_at(tracking_uri(storage))


def run_of(storage: str, key: str) -> Run:
    api = client(storage)
    (run,) = api.search_runs([experiment_id(api, None)], f"tags.`dancedist.key` = '{key}'")
    return run


def test_a_target_is_a_child_of_its_fleet_with_its_recipe(
    storage: str, tracking: Tracker, fleet: FleetRun, tiny_recipe: Recipe
) -> None:
    run = fleet.begin_target("ann", "k", tiny_recipe.model_dump(mode="json"), {"fingerprint": "f"})
    run.dataset("v.mp4", "ab" * 32, "poses")
    run.dataset("v.mp4", "ab" * 32, "poses")
    run.text_artifact("words", "notes/words.txt")
    run.finish("FAILED", "no dancer in it")
    assert tracking.close() == 0
    found = run_of(storage, run.key)
    assert found.data.tags["mlflow.parentRunId"] == run_of(storage, fleet.key).info.run_id
    assert found.data.tags["fingerprint"] == "f"
    assert found.data.tags["why"] == "no dancer in it"
    assert found.info.status == "FAILED"
    assert found.data.params["training.batch_pairs"] == "2"
    artifacts = Path(storage) / "mlflow" / "artifacts" / found.info.run_id / "artifacts"
    assert Recipe.model_validate(json.loads((artifacts / "recipe.json").read_text())) == tiny_recipe
    assert (artifacts / "notes" / "words.txt").read_text() == "words"
    (data,) = found.inputs.dataset_inputs
    assert {tag.key: tag.value for tag in data.tags}["poses_fingerprint"] == "poses"


def test_the_same_keys_continue_the_same_runs(
    storage: str, tracking: Tracker, fleet: FleetRun, request: pytest.FixtureRequest
) -> None:
    run = fleet.begin_target("ann", "k", {"workers": 1, "long": "x" * 9000})
    run.metrics([{"step": s, "loss": float(s)} for s in range(10)])
    run.finish("FAILED", "killed")
    assert tracking.close() == 0
    again = open_tracker(storage)
    same = again.begin_fleet(request.node.name, "fleet", {})
    resumed = same.begin_target("ann", "k", {"workers": 2, "long": "x" * 9000})
    # It was killed after it had logged step 9; its checkpoint was of step 6.
    resumed.metrics([{"step": s, "loss": float(s)} for s in range(6, 13)])
    resumed.finish("FINISHED")
    assert again.close() == 0
    assert (same.key, resumed.key) == (fleet.key, run.key)
    found = run_of(storage, run.key)
    history = client(storage).get_metric_history(found.info.run_id, "loss")
    assert [(m.step, m.value) for m in history] == [(s, float(s)) for s in range(13)]
    assert (found.info.status, found.data.tags["why"]) == ("FINISHED", "")
    assert (found.data.params["workers"], found.data.tags["now.workers"]) == ("1", "2")


def test_many_metrics_of_many_targets(storage: str, tracking: Tracker, fleet: FleetRun) -> None:
    runs = [fleet.begin_target(f"t{i}", str(i), {}) for i in range(3)]
    for step in range(300):
        for number, run in enumerate(runs):
            run.metrics([{"step": step, "time": 1e9 + step, "g_gan": step + number, "a b[c]": math.nan}])
    assert tracking.close() == 0
    for number, run in enumerate(runs):
        found = run_of(storage, run.key)
        history = client(storage).get_metric_history(found.info.run_id, "g_gan")
        assert [(m.step, m.value) for m in history] == [(s, s + number) for s in range(300)]
        assert history[7].timestamp == 1_000_000_007_000
        assert math.isnan(found.data.metrics["a b_c_"])


def test_system_metrics_are_logged(
    storage: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cluster.tracking.system_metrics.SAMPLE_EVERY_S", 0.2)
    tracking = open_tracker(storage)
    fleet = tracking.begin_fleet(request.node.name, "fleet", {})
    time.sleep(1)
    assert tracking.close() == 0
    metrics = run_of(storage, fleet.key).data.metrics
    assert metrics["system/system_memory_usage_megabytes"] > 0
    assert "system/cpu_utilization_percentage" in metrics


def test_a_refused_report_does_not_block_others(
    storage: str, tracking: Tracker, fleet: FleetRun, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "dancedist")
    bad = fleet.begin_target("bad", "bad", {}, {"": "a tag without a name"})
    bad.metrics([{"step": 1, "loss": 1.0}])
    good = fleet.begin_target("good", "good", {})
    good.metrics([{"step": 1, "loss": 1.0}])
    assert tracking.close() == 0
    assert tracking.publisher.refused > 0
    assert run_of(storage, good.key).data.metrics == {"loss": 1.0}
    refused = Path(storage) / "mlflow" / "spool" / "refused"
    assert len(list(refused.glob("*.json"))) == tracking.publisher.refused
    assert "refused a report" in caplog.text


def test_a_deleted_run_is_created_again(storage: str, tracking: Tracker, fleet: FleetRun) -> None:
    run = fleet.begin_target("ann", "k", {"a": 1})
    assert tracking.publisher.wait_until(lambda: not len(tracking.outbox), 30)
    first = run_of(storage, run.key).info.run_id
    client(storage).delete_run(first)
    run.metrics([{"step": 1, "loss": 1.0}])
    assert tracking.close() == 0
    assert tracking.publisher.refused == 0
    found = run_of(storage, run.key)
    assert found.info.run_id != first
    assert found.data.metrics == {"loss": 1.0}


def test_a_run_that_a_server_created_twice_is_merged(
    storage: str, tracking: Tracker, fleet: FleetRun, request: pytest.FixtureRequest
) -> None:
    run = fleet.begin_target("ann", "k", {"a": 1})
    run.metrics([{"step": 1, "loss": 1.0}])
    assert tracking.close() == 0
    first = run_of(storage, run.key).info
    client(storage).create_run(first.experiment_id, tags={"dancedist.key": run.key})
    again = open_tracker(storage)
    same = again.begin_fleet(request.node.name, "fleet", {}).begin_target("ann", "k", {"a": 1})
    same.metrics([{"step": 2, "loss": 2.0}])
    assert again.close() == 0
    found = run_of(storage, run.key)
    assert found.info.run_id == first.run_id
    assert found.data.metrics == {"loss": 2.0}


def test_two_drivers_of_one_storage_are_refused(storage: str, tracking: Tracker) -> None:
    with pytest.raises(TrackingRefused, match="another process"):
        open_tracker(storage)


def test_versions_and_aliases(storage: str, tracking: Tracker, fleet: FleetRun, bundle: Path) -> None:
    uri = tracking_uri(storage)
    run = fleet.begin_target("vera", "k", {})
    assert run.register(bundle, "fp1", {"body_lpips": 0.0312345}, CONSENT) == 1
    assert find_dancer("models:/dancer-vera@champion", uri).number == 1
    # Registered again, by this process or another, it is the same version.
    assert run.register(bundle, "fp1", {"body_lpips": 0.0312345}, CONSENT) == 1
    assert run.version == 1
    other = fleet.begin_target("vera", "other", {})
    assert other.register(bundle, "fp2", {}, {}) == 2
    assert find_dancer("models:/dancer-vera@candidate", uri).number == 2
    assert find_dancer("models:/dancer-vera@champion", uri).number == 1
    tags = find_dancer("models:/dancer-vera/1", uri).tags
    assert tags["fingerprint"] == "fp1"
    assert tags["metric.body_lpips"] == "0.0312345"
    assert {key: tags[f"consent.{key}"] for key in CONSENT} == CONSENT
    move_champion(find_dancer("models:/dancer-vera/2", uri), uri, {"promoted": "why"})
    assert find_dancer("models:/dancer-vera@champion", uri).tags["promoted"] == "why"
    # Registering an old one again does not make it the candidate.
    assert run.register(bundle, "fp1", {}, {}) == 1
    assert find_dancer("models:/dancer-vera@candidate", uri).number == 2


@pytest.mark.parametrize("dies_in", ["log_artifacts", "create_model_version", "set_registered_model_alias"])
def test_an_interrupted_registration_is_completed(
    storage: str, tracking: Tracker, fleet: FleetRun, bundle: Path, dies_in: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = f"broken-{dies_in}"
    run = fleet.begin_target(name, "k", {})
    assert tracking.publisher.wait_until(lambda: not len(tracking.outbox), 30)
    run_id = run_of(storage, run.key).info.run_id
    arguments = (client(storage), run_id, name, bundle, "fp", {}, CONSENT)
    real = getattr(MlflowClient, dies_in)

    def dies(*args: object, **options: object) -> None:
        real(*args, **options)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, dies_in, dies)
        with pytest.raises(KeyboardInterrupt):
            registry.register(*arguments)
    assert registry.register(*arguments) == 1
    for alias in ("candidate", "champion"):
        assert find_dancer(f"models:/dancer-{name}@{alias}", tracking_uri(storage)).number == 1


def test_a_dancer_is_fetched_and_verified(
    storage: str, tracking: Tracker, fleet: FleetRun, bundle: Path, tmp_path: Path
) -> None:
    run = fleet.begin_target("fay", "k", {})
    assert run.register(bundle, "fp", {}, CONSENT) == 1
    fetched = fetch_dancer("models:/dancer-fay@champion", tmp_path / "got", storage)
    assert {p.name: p.read_bytes() for p in fetched.iterdir()} == {p.name: p.read_bytes() for p in bundle.iterdir()}
    assert load_bundle(fetched).dancer.name == "ann"
    assert fetch_dancer("models:/dancer-fay/1", tmp_path / "got", storage) == fetched
    assert fetch_dancer(str(bundle), tmp_path / "unused", storage) == bundle
    stored = Path(storage) / "mlflow/artifacts" / run_of(storage, run.key).info.run_id / "artifacts/dancer-fp"
    weights = stored / "generator.safetensors"
    original = weights.read_bytes()
    weights.write_bytes(original[:-1] + b"\x01")
    with pytest.raises(FileInvalid, match="altered"):
        fetch_dancer("models:/dancer-fay/1", tmp_path / "altered", storage)
    assert not (tmp_path / "altered").exists()
    weights.write_bytes(original)
    (stored / "model.pkl").write_bytes(b"cos\nsystem\n(S'true'\ntR.")
    with pytest.raises(FileInvalid, match=r"model\.pkl"):
        fetch_dancer("models:/dancer-fay/1", tmp_path / "pickled", storage)


def test_an_unknown_dancer_is_reported_with_the_known_ones(
    storage: str, tracking: Tracker, fleet: FleetRun, bundle: Path, tmp_path: Path
) -> None:
    assert fleet.begin_target("una", "k", {}).register(bundle, "fp", {}, CONSENT) == 1
    for uri, suggestion in {
        "models:/dancer-una@winner": "@champion",
        "models:/dancer-una/9": "@champion",
        "models:/dancer-nobody@champion": "dancer-una",
        "models:/dancer-una": "models:/dancer-NAME@champion",
        "models:/a/b/c": "models:/dancer-NAME@champion",
    }.items():
        with pytest.raises(DancerUnknown, match=suggestion):
            fetch_dancer(uri, tmp_path / "got", storage)
    with pytest.raises(FileInvalid):
        fetch_dancer(str(tmp_path), tmp_path / "got", storage)


def test_an_unavailable_registry_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(RegistryUnavailable, match="no registry"):
        fetch_dancer("models:/dancer-ann@champion", tmp_path / "got", str(tmp_path / "other"))
    assert not os.listdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    with pytest.raises(RegistryUnavailable, match="does not answer"):
        fetch_dancer("models:/dancer-ann@champion", tmp_path / "got", str(tmp_path))


def test_nested_params_are_flattened() -> None:
    plain = {"a": {"b": {"c": 1.5}, "d": [1, 2]}, "e": "text", "f": None, "g": True}
    assert flatten(plain) == {"a.b.c": "1.5", "a.d": "[1, 2]", "e": "text", "f": "null", "g": "true"}
