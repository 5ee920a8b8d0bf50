from __future__ import annotations

from pathlib import Path

import pytest
import requests
from mlflow.exceptions import MlflowException

from cluster.tracking.mlflow_client import TrackingRefused, is_permanent, tracking_uri, without_password

SERVER = "http://mlflow:5000"


def test_a_database_in_the_storage_is_the_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert tracking_uri(str(tmp_path)) == f"sqlite:///{tmp_path}/mlflow/mlflow.db"
    assert tracking_uri(tmp_path.as_uri()) == tracking_uri(str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert tracking_uri("runs") == f"sqlite:///{tmp_path}/runs/mlflow/mlflow.db"


@pytest.mark.parametrize("storage", ["runs", "s3://bucket/runs"])
@pytest.mark.parametrize("nodes", [1, 5])
def test_a_server_works_for_every_storage_and_cluster(
    storage: str, nodes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", SERVER)
    assert tracking_uri(storage, nodes) == SERVER


@pytest.mark.parametrize(
    ("storage", "nodes", "configured"),
    [
        ("runs", 2, None),
        ("s3://bucket/runs", 1, None),
        ("runs", 2, "sqlite:////data/m.db"),
        ("runs", 1, "./mlruns"),
        ("runs", 1, "file:///data/mlruns"),
    ],
)
def test_an_unusable_configuration_is_refused_with_what_to_set(
    storage: str, nodes: int, configured: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    if configured is None:
        monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    else:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", configured)
    with pytest.raises(TrackingRefused, match="MLFLOW_TRACKING_URI=http"):
        tracking_uri(storage, nodes)


def test_passwords_are_not_shown() -> None:
    assert without_password("https://me:secret@host:1/x") == "https://host:1/x"  # pragma: allowlist secret
    assert without_password(SERVER) == SERVER


def test_refusals_are_distinguished_from_outages() -> None:
    for code, refused in {"INVALID_PARAMETER_VALUE": True, "INTERNAL_ERROR": False, "PERMISSION_DENIED": False}.items():
        from mlflow.protos.databricks_pb2 import ErrorCode

        assert is_permanent(MlflowException("x", ErrorCode.Value(code))) is refused
    for status, refused in {404: True, 413: True, 403: False, 429: False, 503: False}.items():
        response = requests.Response()
        response.status_code = status
        assert is_permanent(requests.HTTPError(response=response)) is refused
    assert not is_permanent(requests.ConnectionError())
