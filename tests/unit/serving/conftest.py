"""Fixtures: records in SQLite and in Postgres, a registry with dancers, a film."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from uuid import uuid4

import numpy as np
import pytest

from cluster.tracking.mlflow_client import client_at, experiment_id, local_folder, tracking_uri
from cluster.tracking.registry import register
from dancedist.bundle.record import PORTRAIT
from dancedist.video.encode import write_film
from serving.db.engine import Database
from serving.db.leases import Leases
from serving.db.records import NewRender, Records
from tests.support.postgres import PostgresServer
from tests.unit.conftest import toy_recipe
from tests.unit.dancedist.bundle.test_bundle import make_bundle


@pytest.fixture(params=["sqlite", "postgres"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/records.db"
    server: PostgresServer = request.getfixturevalue("postgres")
    return server.url(f"t{uuid4().hex[:12]}")


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    opened = Database(database_url)
    yield opened
    opened.close()


@pytest.fixture
def records(database: Database) -> Records:
    return Records(database)


@pytest.fixture
def leases(database: Database) -> Leases:
    return Leases(database)


def new_render(
    key_id: str = "ann", fingerprint: str = "f", idempotency_key: str | None = None, request_sha256: str = "s"
) -> NewRender:
    """A request as the service queues it."""
    request, dancer = {"source": "dance.mp4"}, {"name": "dancer-ann", "version": 3}
    return NewRender(key_id, idempotency_key, request_sha256, request, dancer, fingerprint, "s.mp4")


CONSENT = {"who": "Ann", "when": "2026-01-01", "reference": "form 7"}


def register_dancer(storage: Path, bundle: Path, name: str, fingerprint: str, consent: dict[str, str]) -> int:
    """Register a version in the MLflow of a storage folder, as a fleet does. Returns its number."""
    client = client_at(tracking_uri(str(storage)))
    experiment = experiment_id(client, local_folder(str(storage)))
    run = client.create_run(experiment)
    return register(client, run.info.run_id, name, bundle, fingerprint, {"body_lpips": 0.25}, consent)


@pytest.fixture(scope="session")
def registered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A storage folder: ann has two versions (1 is champion, 2 is candidate), bob has no consent."""
    storage, bundles = tmp_path_factory.mktemp("storage"), tmp_path_factory.mktemp("bundles")
    make_bundle(bundles / "ann", toy_recipe(), settling_frames=4)
    (bundles / "ann" / "sample.png").write_bytes(b"sample")
    register_dancer(storage, bundles / "ann", "bob", "f3", {})
    (bundles / "ann" / PORTRAIT).write_bytes(b"portrait")
    for fingerprint in ("f1", "f2"):
        register_dancer(storage, bundles / "ann", "ann", fingerprint, CONSENT)
    return storage


@pytest.fixture
def storage(registered: Path, tmp_path: Path) -> Path:
    """A storage folder with the same registry, but records and films of its own."""
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "mlflow").symlink_to(registered / "mlflow")
    return tmp_path / "runs"


@pytest.fixture(scope="session")
def film(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("film") / "dance.mp4"
    frames = np.random.default_rng(0).integers(0, 255, (12, 48, 64, 3), np.uint8)
    write_film(path, frames, Fraction(25), crf=30, x264_preset="veryfast")
    return path.read_bytes()
