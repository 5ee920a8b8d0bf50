"""The service with all state in servers: sources, chunks and films in S3, records in Postgres, dancers in MLflow.

Its replica renders several chunks as one batch. This module must come first in its folder: a process cannot run two
services at once.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from cluster.storage.open import open_storage
from cluster.tracking.mlflow_client import client_at, experiment_id
from cluster.tracking.registry import register
from dancedist.files import file_sha256
from dancedist.video.probe import probe
from serving.settings import Settings
from tests.serving.conftest import ENCODING, write_dance
from tests.support.mlflow_server import MlflowServer
from tests.support.postgres import PostgresServer
from tests.support.s3 import S3Server
from tests.support.served import Served
from tests.unit.serving.conftest import CONSENT

pytestmark = [pytest.mark.cluster, pytest.mark.slow]
WITHIN_S = 240.0


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("film") / "dance.mp4"
    write_dance(path, 6.4)
    return path


@pytest.fixture(scope="module")
def remote(
    s3_server: S3Server, mlflow_server: MlflowServer, postgres: PostgresServer, dancer: Path
) -> Iterator[Served]:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (s3_server.environment | {"MLFLOW_TRACKING_URI": mlflow_server.uri}).items():
            patch.setenv(name, value)
        client = client_at(mlflow_server.uri)
        run = client.create_run(experiment_id(client, None))
        register(client, run.info.run_id, "ann", dancer, "f1", {}, CONSENT)
        database = postgres.url("remote")
        settings = Settings(
            storage=s3_server.uri("service/x"), database=database, buckets=frozenset({"films"}), render_batch=4
        )
        with Served(settings) as service:
            yield service


def test_a_source_in_a_bucket_becomes_a_film_in_a_bucket(
    remote: Served, s3_server: S3Server, film: Path, tmp_path: Path
) -> None:
    source = s3_server.uri("films/dance.mp4")
    open_storage(s3_server.uri("films")).upload(film, "dance.mp4")
    answer = remote.client.post("/v1/renders", json={"dancer": "ann", "source": source})
    assert answer.status_code == 202, answer.text
    by_uri = answer.json()["id"]
    by_upload = remote.send(film, dancer="ann")
    for render_id in (by_uri, by_upload):
        render = remote.ended(render_id, WITHIN_S)
        assert render["state"] == "done", render["problem"]
        assert len(render["chunks"]) > 1
        redirect = remote.client.get(f"/v1/renders/{render_id}/result")
        assert redirect.status_code == 307
        # The presigned address needs no API key.
        path = tmp_path / "film.mp4"
        path.write_bytes(httpx.get(redirect.headers["location"]).content)
        assert file_sha256(path) == render["result"]["sha256"]
        assert probe(path, ENCODING).frames == probe(film, ENCODING).frames


def test_a_missing_or_forbidden_source_is_refused(remote: Served, s3_server: S3Server) -> None:
    for source, status, slug in (
        (s3_server.uri("films/nothing.mp4"), 404, "storage-missing"),
        ("s3://elsewhere/dance.mp4", 422, "source-refused"),
        ("file:///etc/passwd", 422, "source-refused"),
    ):
        answer = remote.client.post("/v1/renders", json={"dancer": "ann", "source": source})
        assert (answer.status_code, answer.json()["type"]) == (status, f"urn:dancedist:problem:{slug}")
