"""Access to MLflow: which server or database is used, and how its errors are classified."""

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

from cluster.core.settings import MLflowSettings
from cluster.storage.open import durable_uri, open_storage
from dancedist.errors import DancedistError, FileInvalid

# Errors that a retry cannot fix.
_PERMANENT_CODES = {
    "INVALID_PARAMETER_VALUE",
    "INVALID_STATE",
    "MALFORMED_REQUEST",
    "BAD_REQUEST",
    "RESOURCE_ALREADY_EXISTS",
    "RESOURCE_DOES_NOT_EXIST",
}
_TRANSIENT_STATUSES = {401, 403, 408, 429}
# Exceptions of MLflow's client when a server, a database or a disk does not answer.
MLFLOW_ERRORS = (MlflowException, SQLAlchemyError, OSError)


class TrackingRefused(DancedistError):
    """The MLflow configuration cannot work here; the message says what to set."""

    slug = "tracking-refused"


class RegistryUnavailable(DancedistError):
    """MLflow does not answer, or there is no registry at the given address."""

    slug = "registry-unavailable"


def tracking_uri(storage_uri: str, nodes: int = 1) -> str:
    """$MLFLOW_TRACKING_URI, or by default an SQLite database in the storage folder.

    `nodes`: number of nodes of the cluster. Raises TrackingRefused if they cannot share that MLflow.
    """
    expected = "MLFLOW_TRACKING_URI=http(s)://… of an `mlflow server` that all nodes reach"
    configured = MLflowSettings().tracking_uri
    if configured.startswith(("http://", "https://")):
        return configured
    if configured and not configured.startswith("sqlite:///"):
        raise TrackingRefused(
            "unsupported kind of MLflow store", expected=f"{expected}, or sqlite:///…", got=without_password(configured)
        )
    if nodes > 1:
        got = without_password(configured) if configured else "MLflow's files in the storage folder"
        raise TrackingRefused(f"{nodes} nodes cannot share a local MLflow database", expected=expected, got=got)
    if configured:
        return configured
    return f"sqlite:///{local_folder(storage_uri)}/mlflow.db"


def local_folder(storage_uri: str) -> Path:
    """Folder of MLflow's database and artifacts when there is no server.

    Raises TrackingRefused for storage in a bucket, StorageUnavailable for a folder that is not durable.
    """
    if storage_uri.startswith("s3://"):
        raise TrackingRefused(
            "cannot hold MLflow's SQLite database: it is a bucket",
            file=storage_uri,
            expected="MLFLOW_TRACKING_URI=http(s)://… of a server",
        )
    return Path(open_storage(durable_uri(storage_uri)).uri) / "mlflow"


def without_password(uri: str) -> str:
    """Remove user and password from a URI."""
    parts = urlsplit(uri)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl() if "@" in parts.netloc else uri


@cache
def client_at(uri: str) -> MlflowClient:
    """Return a client, one per URI; for a database, creates its tables if necessary (4 s)."""
    MLflowSettings().export_defaults(
        "http_request_max_retries", "http_request_timeout", "enable_artifacts_progress_bar", "disable_telemetry"
    )
    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.WARNING)
    if uri.startswith("sqlite:///"):
        Path(uri.removeprefix("sqlite:///")).parent.mkdir(parents=True, exist_ok=True)
    return MlflowClient(uri, uri)


def experiment_id(client: MlflowClient, home: Path | None, nodes: int = 1) -> str:
    """Id of the experiment of all fleets, created if necessary.

    `home`: for a database without a server, the folder that gets the artifacts; `nodes`: number of the cluster's nodes.
    Raises TrackingRefused if it was deleted, or stores artifacts on one machine's disk while there are several nodes.
    """
    name = MLflowSettings().experiment_name
    experiment = client.get_experiment_by_name(name)
    if experiment is None:
        created_id = client.create_experiment(
            name, artifact_location=None if home is None else (home / "artifacts").as_uri()
        )
        experiment = client.get_experiment(created_id)
    if experiment.lifecycle_stage != "active":
        raise TrackingRefused(
            f"experiment {name!r} was deleted", expected="to be restored, or another MLFLOW_EXPERIMENT_NAME"
        )
    location = experiment.artifact_location
    if nodes > 1 and urlsplit(location).scheme in ("", "file"):
        raise TrackingRefused(
            f"experiment {name!r} stores its artifacts on one machine's disk",
            expected="an `mlflow server` with --artifacts-destination, and MLFLOW_EXPERIMENT_NAME set to a new name",
            got=location,
        )
    return str(experiment.experiment_id)


def is_permanent(error: Exception) -> bool:
    """Whether MLflow rejected the request for good, so that a retry is pointless."""
    if isinstance(error, MlflowException):
        return error.error_code in _PERMANENT_CODES
    if isinstance(error, requests.HTTPError) and error.response is not None:
        return 400 <= error.response.status_code < 500 and error.response.status_code not in _TRANSIENT_STATUSES
    return isinstance(error, FileInvalid)


@contextmanager
def mlflow_errors_as_unavailable(uri: str) -> Iterator[None]:
    """Convert MLflow's errors into RegistryUnavailable."""
    try:
        yield
    except (MlflowException, SQLAlchemyError, requests.RequestException) as error:
        raise RegistryUnavailable(
            "MLflow does not answer", file=without_password(uri), got=first_line(error)
        ) from error


def first_line(error: Exception) -> str:
    """First line of an error's message, at most 300 characters: no stack trace, no HTML page."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
