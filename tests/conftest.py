"""Shared fixtures: footage, weights, and real servers."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from tests.support.mlflow_server import MlflowServer
from tests.support.own_ray import own_ray
from tests.support.postgres import PostgresServer
from tests.support.s3 import S3Server

# No deadline for random examples: on a busy machine the first example of a test may be slow.
settings.register_profile("no-deadline", deadline=None)
settings.load_profile("no-deadline")

# A shell lets background processes ignore SIGINT, and children inherit that: reset it for the tests' jobs.
signal.signal(signal.SIGINT, signal.default_int_handler)

SHARED = Path(__file__).resolve().parents[2] / "shared"


def _shared(name: str) -> Path:
    folder = SHARED / name
    if not folder.is_dir():
        pytest.skip(f"needs {folder}, which is not part of the repository")
    return folder


@pytest.fixture(scope="session")
def footage() -> Path:
    """../shared/footage: films of real dancers."""
    return _shared("footage")


@pytest.fixture(scope="session")
def shared_weights() -> Path:
    """../shared/weights: weights of real networks."""
    return _shared("weights")


@pytest.fixture
def ray_here() -> Iterator[None]:
    """A Ray instance of this process, stopped after the test."""
    with own_ray(2):
        yield


@pytest.fixture(scope="session")
def s3_server() -> Iterator[S3Server]:
    """A real S3 server; a test that stops it must restart it."""
    server = S3Server()
    yield server
    server.close()


@pytest.fixture(scope="session")
def mlflow_server() -> Iterator[MlflowServer]:
    """A real MLflow server; a test that stops it must restart it."""
    server = MlflowServer()
    yield server
    server.close()


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A real Postgres server; each test creates databases of its own."""
    server = PostgresServer()
    yield server
    server.close()
