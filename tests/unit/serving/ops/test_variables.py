from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import mlflow.cli
import mlflow.environment_variables
import pytest
from mlflow.environment_variables import _EnvironmentVariable

from cluster.core.settings import S3, MLflow, Shared
from cluster.tracking.mlflow_client import client_at
from serving.ops.variables import known_variables, settings_table
from serving.settings import Settings

ROOT = Path(__file__).resolve().parents[4]
OURS = re.compile(r"\bDANCEDIST_[A-Z0-9_]*[A-Z0-9]")
OTHERS = re.compile(r"(AWS|MLFLOW|RAY)_[A-Z0-9_]+")


def test_the_documented_table_is_the_models() -> None:
    section = (ROOT / "docs" / "operations.md").read_text().partition("\n## Settings\n")[2]
    assert settings_table() in section, "put `python -m serving.ops.variables` there"


def test_every_variable_is_described_once() -> None:
    assert all(variable.description for variable in known_variables().values())
    assert {Settings.variable(field) for field in Settings.model_fields} <= known_variables().keys()


def strings(folder: str) -> Iterator[tuple[Path, str]]:
    for path in (ROOT / folder).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield path, node.value


@pytest.mark.parametrize("folder", ["dancedist", "cluster", "serving", "jobs"])
def test_the_code_names_no_variable_that_is_not_declared(folder: str) -> None:
    named = {(path, name) for path, text in strings(folder) for name in OURS.findall(text)}
    named |= {(path, text) for path, text in strings(folder) if OTHERS.fullmatch(text)}
    assert {(str(path), name) for path, name in named if name not in known_variables()} == set()


@pytest.mark.parametrize("folder", ["cluster", "serving", "jobs"])
def test_variables_are_read_through_the_models(folder: str) -> None:
    read = re.compile(r"(environ\.get\(|environ\[|getenv\()\s*[\"'](DANCEDIST|AWS|MLFLOW|RAY)_\w+[\"'][\])](?! =)")
    assert {str(p): found for p in (ROOT / folder).rglob("*.py") if (found := read.findall(p.read_text()))} == {}


def test_mlflow_knows_its_variables() -> None:
    theirs = {v.name for v in vars(mlflow.environment_variables).values() if isinstance(v, _EnvironmentVariable)}
    theirs |= {option.envvar for option in mlflow.cli.server.params if isinstance(option.envvar, str)}
    assert {name for name in known_variables() if name.startswith("MLFLOW_")} <= theirs


def test_our_defaults_become_mlflows_unless_somebody_set_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    retries, telemetry = mlflow.environment_variables.MLFLOW_HTTP_REQUEST_MAX_RETRIES, "MLFLOW_DISABLE_TELEMETRY"
    monkeypatch.setenv(retries.name, "4")
    # Removed again at the end, whoever sets it.
    monkeypatch.setenv(telemetry, "")
    monkeypatch.delenv(telemetry)
    client_at.__wrapped__("http://127.0.0.1:9")
    assert retries.get() == 4
    assert mlflow.environment_variables.MLFLOW_DISABLE_TELEMETRY.get() is True


def test_what_is_set_to_nothing_is_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DANCEDIST_CACHE", "")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "")
    assert Shared().cache is None
    assert MLflow().tracking_uri == ""


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
def test_where_s3_is(
    environment: dict[str, str], endpoint: str, region: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for field in S3.model_fields:
        monkeypatch.delenv(S3.variable(field), raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert (S3().endpoint, S3().region_name) == (endpoint, region)
