"""The door to MLflow: which server or database, how long it is waited for, and what its errors mean."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from urllib.parse import urlsplit

import requests
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from sqlalchemy.exc import SQLAlchemyError

from cluster.core.session import lasting
from cluster.core.settings import MLflow
from cluster.storage.base import open_storage
from dancedist.errors import DancedistError, FileInvalid

# What stays wrong however often it is sent.
_LASTING = {
    "INVALID_PARAMETER_VALUE",
    "INVALID_STATE",
    "MALFORMED_REQUEST",
    "BAD_REQUEST",
    "RESOURCE_ALREADY_EXISTS",
    "RESOURCE_DOES_NOT_EXIST",
}
_MAY_PASS = {401, 403, 408, 429}
# Everything that MLflow's client lets through when it gets no answer from a server, a database or a disk.
FAULTS = (MlflowException, SQLAlchemyError, OSError)


class TrackingRefused(DancedistError):
    """MLflow cannot be used like this here; the message says what to set."""

    slug = "tracking-refused"


class RegistryUnavailable(DancedistError):
    """MLflow does not answer, or there is no registry where one was looked for."""

    slug = "registry-unavailable"


def tracking_uri(storage_uri: str, nodes: int = 1) -> str:
    """$MLFLOW_TRACKING_URI, or a database under the storage folder. Raises TrackingRefused."""
    wanted = "MLFLOW_TRACKING_URI=http(s)://… of an `mlflow server` that all nodes reach"
    named = MLflow().tracking_uri
    if named.startswith(("http://", "https://")):
        return named
    if named and not named.startswith("sqlite:///"):
        raise TrackingRefused("no such kind of MLflow store", expected=f"{wanted}, or sqlite:///…", got=shown(named))
    if nodes > 1:
        got = shown(named) if named else "MLflow's files in the storage folder"
        raise TrackingRefused(f"{nodes} nodes cannot share a local MLflow database", expected=wanted, got=got)
    if named:
        return named
    return f"sqlite:///{local_home(storage_uri)}/mlflow.db"


def local_home(storage_uri: str) -> Path:
    """Folder of database and artifacts where there is no server.

    Raises TrackingRefused for storage in a bucket, StorageUnavailable for a folder that would not last.
    """
    if storage_uri.startswith("s3://"):
        raise TrackingRefused(
            "SQLite cannot lie in a bucket", file=storage_uri, expected="MLFLOW_TRACKING_URI=http(s)://… of a server"
        )
    return Path(open_storage(lasting(storage_uri)).uri) / "mlflow"


def shown(uri: str) -> str:
    """A URI without the password that may be in it."""
    parts = urlsplit(uri)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl() if "@" in parts.netloc else uri


@cache
def client_at(uri: str) -> MlflowClient:
    """A client; for a database, its tables are made if need be (4 s)."""
    MLflow().hand_on(
        "http_request_max_retries", "http_request_timeout", "enable_artifacts_progress_bar", "disable_telemetry"
    )
    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.WARNING)
    if uri.startswith("sqlite:///"):
        Path(uri.removeprefix("sqlite:///")).parent.mkdir(parents=True, exist_ok=True)
    return MlflowClient(uri, uri)


def experiment_id(client: MlflowClient, home: Path | None, nodes: int = 1) -> str:
    """The experiment of all fleets, made if need be; `home`: for a database, the folder that takes the artifacts.

    Raises TrackingRefused for one that keeps its artifacts on the disk of one of several nodes.
    """
    name = MLflow().experiment_name
    found = client.get_experiment_by_name(name)
    if found is None:
        made = client.create_experiment(name, artifact_location=None if home is None else (home / "artifacts").as_uri())
        found = client.get_experiment(made)
    if found.lifecycle_stage != "active":
        raise TrackingRefused(
            f"experiment {name!r} was deleted", expected="it restored, or MLFLOW_EXPERIMENT_NAME set to another"
        )
    location = found.artifact_location
    if nodes > 1 and urlsplit(location).scheme in ("", "file"):
        raise TrackingRefused(
            f"experiment {name!r} keeps its artifacts on one machine's disk",
            expected="an `mlflow server` with --artifacts-destination, and MLFLOW_EXPERIMENT_NAME set to a new name",
            got=location,
        )
    return str(found.experiment_id)


def is_refusal(error: Exception) -> bool:
    """Whether MLflow answered and will never take this, so that sending it again is of no use."""
    if isinstance(error, MlflowException):
        return error.error_code in _LASTING
    if isinstance(error, requests.HTTPError) and error.response is not None:
        return 400 <= error.response.status_code < 500 and error.response.status_code not in _MAY_PASS
    return isinstance(error, FileInvalid)


@contextmanager
def answering(uri: str) -> Iterator[None]:
    """Turn what MLflow says when it does not answer into a RegistryUnavailable."""
    try:
        yield
    except (MlflowException, SQLAlchemyError, requests.RequestException) as error:
        raise RegistryUnavailable("MLflow does not answer", file=shown(uri), got=first_line(error)) from error


def first_line(error: Exception) -> str:
    """What happened, without a stack or a page of HTML."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
