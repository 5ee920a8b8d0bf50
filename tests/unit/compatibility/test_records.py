"""A render service answers the same from the storage of the first release."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from serving.api.routes import build_api
from serving.db.leases import Leases
from serving.settings import Settings
from tests.unit.conftest import FIXTURES

RECORDS = FIXTURES / "records"
EXPECTED: dict[str, Any] = json.loads((RECORDS / "expected.json").read_text())


@pytest.fixture
def client(tmp_path: Path) -> Iterator[TestClient]:
    storage = tmp_path / "runs"
    storage.mkdir()
    shutil.copytree(RECORDS / "renders", storage / "renders")
    shutil.copyfile(RECORDS / "records.sqlite", storage / "renders.db")
    with sqlite3.connect(storage / "renders.db") as database:
        for table in ("renders", "chunks", "events", "results"):
            for column in [row[1] for row in database.execute(f"PRAGMA table_info({table})")]:
                database.execute(
                    f"UPDATE {table} SET {column} = replace({column}, ?, ?) WHERE typeof({column}) = 'text'",
                    (EXPECTED["place"], str(storage)),
                )
    settings = Settings(storage=str(storage), api_keys=RECORDS / "keys.toml")
    with TestClient(build_api(settings), client=("127.0.0.1", 5000)) as client:
        yield client


def as_key(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {EXPECTED['keys'][key]}"}


@pytest.mark.parametrize("state", EXPECTED["ids"])
def test_a_stored_render_has_the_same_view(client: TestClient, state: str) -> None:
    path = f"/v1/renders/{EXPECTED['ids'][state]}"
    assert client.get(path, headers=as_key("root")).json() == EXPECTED["renders"][state]
    if state in EXPECTED["events"]:
        assert client.get(f"{path}/events", headers=as_key("root")).text == EXPECTED["events"][state]


def test_the_list_and_the_result_file_are_available(client: TestClient) -> None:
    for key, page in EXPECTED["pages"].items():
        assert client.get("/v1/renders", headers=as_key(key)).json() == page
    film = client.get(f"/v1/renders/{EXPECTED['ids']['done']}/result", headers=as_key("ann"))
    assert film.status_code == 200
    assert len(film.content) == EXPECTED["renders"]["done"]["result"]["size_bytes"]


def test_unfinished_renders_are_leased_in_order(client: TestClient) -> None:
    leases = Leases(client.app.state.service.database)  # type: ignore[attr-defined]
    acquired = [leases.acquire(60) for _ in EXPECTED["claimed_in_order"]]
    ids = [lease[0].render_id for lease in acquired if lease is not None]
    assert ids == [EXPECTED["ids"][state] for state in EXPECTED["claimed_in_order"]]
