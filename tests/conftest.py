"""Where the tests find what is not in the repository."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.mlflow_server import MlflowServer
from tests.support.own_ray import own_ray
from tests.support.postgres import PostgresServer
from tests.support.s3 import S3Server

# A shell ignores Ctrl-C in what it starts in the background, and children inherit that: the tests' jobs would, too.
signal.signal(signal.SIGINT, signal.default_int_handler)

SHARED = Path(__file__).resolve().parents[2] / "shared"


def _shared(name: str) -> Path:
    folder = SHARED / name
    if not folder.is_dir():
        pytest.skip(f"needs {folder}, which is kept outside the project")
    return folder


@pytest.fixture(scope="session")
def footage() -> Path:
    """../shared/footage: real dancers."""
    return _shared("footage")


@pytest.fixture(scope="session")
def shared_weights() -> Path:
    """../shared/weights: real networks."""
    return _shared("weights")


@pytest.fixture
def ray_here() -> Iterator[None]:
    """A Ray of this process alone, gone when the test is: the next module starts its own."""
    with own_ray(2):
        yield


@pytest.fixture(scope="session")
def s3_server() -> Iterator[S3Server]:
    """A real S3 server; a test that stops it starts it again."""
    server = S3Server()
    yield server
    server.close()


@pytest.fixture(scope="session")
def mlflow_server() -> Iterator[MlflowServer]:
    """A real MLflow server; a test that stops it starts it again."""
    server = MlflowServer()
    yield server
    server.close()


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A real Postgres; each test has databases of its own in it."""
    server = PostgresServer()
    yield server
    server.close()
