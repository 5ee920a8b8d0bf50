from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import mlflow.cli
import mlflow.environment_variables
import pytest
from mlflow.environment_variables import _EnvironmentVariable

from cluster.core.session import SUBMITTED_JOB_VARIABLE
from cluster.core.settings import MLflowSettings, S3Settings, SharedSettings
from cluster.tracking.mlflow_client import client_at
from serving.ops.variables import known_variables, settings_table
from serving.settings import Settings

ROOT = Path(__file__).resolve().parents[4]
OURS = re.compile(r"\bDANCEDIST_[A-Z0-9_]*[A-Z0-9]")
OTHERS = re.compile(r"(AWS|MLFLOW|RAY)_[A-Z0-9_]+")


def test_old_names_are_not_in_the_table() -> None:
    assert {"DANCEDIST_DISPATCHERS", "DANCEDIST_RENDER_BATCH"} <= known_variables().keys()
    assert not {"DANCEDIST_DIRECTORS", "DANCEDIST_LOCKSTEP"} & known_variables().keys()


def test_the_documented_table_is_current() -> None:
    page = (ROOT / "docs" / "operations" / "settings.md").read_text()
    assert settings_table() in page, "put `python -m serving.ops.variables` there"


def test_every_variable_is_described_once() -> None:
    assert all(variable.description for variable in known_variables().values())
    assert {Settings.env_name(field) for field in Settings.model_fields} <= known_variables().keys()


def strings(folder: str) -> Iterator[tuple[Path, str]]:
    for path in (ROOT / folder).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield path, node.value


def declared() -> set[str]:
    """Names in the table, old names that are still read, and one that Ray sets itself."""
    old = {name for field in Settings.model_fields for name in Settings.old_env_names(field)}
    return {*known_variables(), *old, SUBMITTED_JOB_VARIABLE}


@pytest.mark.parametrize("folder", ["dancedist", "cluster", "serving", "jobs"])
def test_every_variable_in_the_code_is_declared(folder: str) -> None:
    named = {(path, name) for path, text in strings(folder) for name in OURS.findall(text)}
    named |= {(path, text) for path, text in strings(folder) if OTHERS.fullmatch(text)}
    assert {(str(path), name) for path, name in named if name not in declared()} == set()


@pytest.mark.parametrize("folder", ["cluster", "serving", "jobs"])
def test_variables_are_read_through_the_models(folder: str) -> None:
    read = re.compile(r"(environ\.get\(|environ\[|getenv\()\s*[\"'](DANCEDIST|AWS|MLFLOW|RAY)_\w+[\"'][\])](?! =)")
    assert {str(p): names for p in (ROOT / folder).rglob("*.py") if (names := read.findall(p.read_text()))} == {}


def test_variables_of_mlflow_exist() -> None:
    known_to_mlflow = {
        v.name for v in vars(mlflow.environment_variables).values() if isinstance(v, _EnvironmentVariable)
    }
    known_to_mlflow |= {option.envvar for option in mlflow.cli.server.params if isinstance(option.envvar, str)}
    assert {name for name in known_variables() if name.startswith("MLFLOW_")} <= known_to_mlflow


def test_our_defaults_apply_to_mlflow_unless_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    retries, telemetry = mlflow.environment_variables.MLFLOW_HTTP_REQUEST_MAX_RETRIES, "MLFLOW_DISABLE_TELEMETRY"
    monkeypatch.setenv(retries.name, "4")
    # Makes monkeypatch remove it at the end, whoever sets it.
    monkeypatch.setenv(telemetry, "")
    monkeypatch.delenv(telemetry)
    client_at.__wrapped__("http://127.0.0.1:9")
    assert retries.get() == 4
    assert mlflow.environment_variables.MLFLOW_DISABLE_TELEMETRY.get() is True


def test_an_empty_variable_counts_as_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DANCEDIST_CACHE", "")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "")
    assert SharedSettings().cache is None
    assert MLflowSettings().tracking_uri == ""


@pytest.mark.parametrize(
    ("environment", "endpoint", "region"),
    [
        ({}, "https://s3.amazonaws.com", None),
        ({"AWS_DEFAULT_REGION": "eu-west-1"}, "https://s3.amazonaws.com", "eu-west-1"),
        ({"AWS_ENDPOINT_URL": "http://store:9000/"}, "http://store:9000", "us-east-1"),
        ({"AWS_ENDPOINT_URL": "http://no", "AWS_ENDPOINT_URL_S3": "http://yes"}, "http://yes", "us-east-1"),
        ({"AWS_REGION": "here", "AWS_DEFAULT_REGION": "there"}, "https://s3.amazonaws.com", "here"),
    ],
)
def test_s3_endpoint_and_region(
    environment: dict[str, str], endpoint: str, region: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for field in S3Settings.model_fields:
        monkeypatch.delenv(S3Settings.env_name(field), raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert (S3Settings().endpoint, S3Settings().region_name) == (endpoint, region)
