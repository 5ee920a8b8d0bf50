"""A backup as docs/operations/storage.md makes it, restored into empty servers: S3, Postgres and MLflow, all real."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from urllib.request import urlopen
from uuid import uuid4

import pytest
from fastapi.testclient import TestClient

from cluster.storage.base import Storage
from cluster.storage.open import open_storage
from cluster.tracking.registry import fetch_dancer, find_dancer
from cluster.training.target import TrainingResult
from serving.api.routes import build_api
from serving.api.service import Service
from serving.db.leases import Leases
from serving.settings import Settings
from serving.workers import paths
from tests.support.mlflow_server import MlflowServer
from tests.support.postgres import PostgresServer
from tests.support.s3 import S3Server
from tests.support.trained import KEYS, leave_fleet, write_footage

pytestmark = pytest.mark.cluster
DOCS = Path(__file__).parents[2] / "docs" / "operations" / "storage.md"
DATABASES, BUCKET = ("renders", "mlflow"), "dance"


@dataclass
class Servers:
    """The servers that hold all state of a cluster."""

    s3: S3Server
    postgres: PostgresServer
    stack: ExitStack


@contextmanager
def servers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Servers]:
    """Start empty servers and point this process at them; MLflow is started later."""
    with ExitStack() as stack:
        s3, postgres = S3Server(), PostgresServer()
        stack.callback(s3.close)
        stack.callback(postgres.close)
        for key, value in s3.environment.items():
            monkeypatch.setenv(key, value)
        monkeypatch.setenv("DANCEDIST_DATABASE", postgres.url("renders"))
        # A new cache: the old one holds copies from other servers.
        monkeypatch.setenv("DANCEDIST_CACHE", str(tmp_path / uuid4().hex))
        s3.uri(BUCKET)
        yield Servers(s3, postgres, stack)


def start_mlflow(state: Servers, monkeypatch: pytest.MonkeyPatch) -> str:
    stores = ("--artifacts-destination", f"s3://{BUCKET}/mlflow", "--backend-store-uri", state.postgres.url("mlflow"))
    mlflow = MlflowServer(*stores)
    state.stack.callback(mlflow.close)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow.uri)
    return mlflow.uri


def documented(program: str, state: Servers, folder: Path) -> None:
    """Run the commands of the documentation page on these databases, in this folder."""
    commands = re.findall(rf"^{program} .*$", DOCS.read_text(), re.MULTILINE)
    assert len(commands) == len(DATABASES)
    for command in commands:
        (name,) = [name for name in DATABASES if f"/{name} " in command]
        url = state.postgres.url(name).replace("+psycopg", "")
        words = command.replace(f"postgresql://…/{name}", url).split()
        subprocess.run([str(state.postgres.programs / words[0]), *words[1:]], check=True, cwd=folder, timeout=60)


def request_render(client: TestClient, number: int) -> str:
    """Request a render of a film with unique content."""
    film = open_storage(service_of(client).settings.storage).read(f"footage/{number}.mp4")
    files = {"source": ("dance.mp4", film, "video/mp4")}
    answer = client.post("/v1/renders", data={"dancer": "anna"}, files=files)
    assert answer.status_code == 202, answer.text
    return str(answer.json()["id"])


def finish(client: TestClient, render_id: str) -> Storage:
    """Publish a film whose content is the render's id. Returns the folder that it is stored in."""
    acquired = Leases(service_of(client).database).acquire(60)
    assert acquired is not None and acquired[0].render_id == render_id
    work = paths.work(service_of(client).settings.storage, acquired[1].fingerprint)
    work.write("film.mp4", render_id.encode())
    shape = {"frames": 20, "width": 32, "height": 32, "fps": "25", "duration_s": 0.8}
    film = {**shape, "size_bytes": len(render_id), "sha256": "0" * 64, "notices": []}
    Leases(service_of(client).database).publish(acquired[0], {"uri": f"{work.uri}/film.mp4", "film": film})
    return work


def test_a_backup_is_restored_into_empty_servers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "drill")
    with servers(monkeypatch, tmp_path) as old:
        start_mlflow(old, monkeypatch)
        storage = f"s3://{BUCKET}/runs"
        names = ["anna", "ben", *map(str, range(4))]
        for shade, name in enumerate(names):
            write_footage(f"{storage}/footage/{name}.mp4", 10 * shade, tmp_path)
        leave_fleet(storage, {name: [f"{storage}/footage/{name}.mp4"] for name in ("anna", "ben")}, tmp_path)
        with service(storage) as client:
            finish(client, kept := request_render(client, 0))
            short_lived = finish(client, removed := request_render(client, 1))
            waiting = request_render(client, 2)
            documented("pg_dump", old, tmp_path)
            # The service keeps running during the backup: a request is added, and the film of another is removed.
            request_render(client, 3)
            short_lived.delete("film.mp4")
            copy = files_of(old)
        fetch_dancer("models:/dancer-anna@champion", tmp_path / "before", storage)

    with servers(monkeypatch, tmp_path) as new:
        for name, data in copy.items():
            # Without object metadata: `aws s3 sync` copies only the contents.
            new.s3.client.put_object(BUCKET, name, BytesIO(data), len(data))
        documented("pg_restore", new, tmp_path)
        registry = start_mlflow(new, monkeypatch)
        assert files_of(new) == copy
        assert find_dancer("models:/dancer-ben@champion", registry).number == 1
        fetch_dancer("models:/dancer-anna@champion", tmp_path / "after", storage)
        assert folder(tmp_path / "after") == folder(tmp_path / "before") != {}
        assert TrainingResult.read(open_storage(f"{storage}/anna/{KEYS['anna']}")) is not None
        with service(storage) as client:
            restored = [row["id"] for row in client.get("/v1/renders").json()["renders"]]
            assert restored == [waiting, removed, kept]
            signed = client.get(f"/v1/renders/{kept}/result", follow_redirects=False).headers["location"]
            assert urlopen(signed, timeout=30).read() == kept.encode()
            assert client.get(f"/v1/renders/{removed}/result").status_code == 410
            # The waiting render is done now; a request after the dump must be sent again.
            assert [acquired_id(client), acquired_id(client)] == [waiting, None]
            assert (again := request_render(client, 3)) not in restored and acquired_id(client) == again


def service(storage: str) -> TestClient:
    return TestClient(build_api(Settings(storage=storage)), client=("127.0.0.1", 1))


def service_of(client: TestClient) -> Service:
    state: Service = client.app.state.service  # type: ignore[attr-defined]
    return state


def acquired_id(client: TestClient) -> str | None:
    acquired = Leases(service_of(client).database).acquire(60)
    return None if acquired is None else acquired[0].render_id


def files_of(state: Servers) -> dict[str, bytes]:
    """The contents of all files in the bucket, without their metadata."""
    names = [entry.name for entry in open_storage(f"s3://{BUCKET}").list()]
    return {name: state.s3.client.get_object(BUCKET, name).read() for name in names}


def folder(path: Path) -> dict[str, bytes]:
    return {str(file.relative_to(path)): file.read_bytes() for file in sorted(path.rglob("*")) if file.is_file()}
