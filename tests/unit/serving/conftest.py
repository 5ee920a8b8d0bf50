"""Records in a database of each kind."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from serving.claims import Claims
from serving.database import Database
from serving.records import Asked, Records
from tests.postgres import PostgresServer


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    server = PostgresServer()
    yield server
    server.close()


@pytest.fixture(params=["sqlite", "postgres"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/records.db"
    server: PostgresServer = request.getfixturevalue("postgres")
    return server.url(f"t{uuid4().hex[:12]}")


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    made = Database(database_url)
    yield made
    made.close()


@pytest.fixture
def records(database: Database) -> Records:
    return Records(database)


@pytest.fixture
def claims(database: Database) -> Claims:
    return Claims(database)


def asked(key: str = "ann", fingerprint: str = "f", again: str | None = None, sha: str = "s") -> Asked:
    """A request as the service keeps it."""
    return Asked(key, again, sha, {"source": "dance.mp4"}, {"name": "dancer-ann", "version": 3}, fingerprint)
