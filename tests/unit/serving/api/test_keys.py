from __future__ import annotations

from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from typer.testing import CliRunner

from dancedist.errors import FileInvalid
from serving.api.keys import ApiKeys
from serving.api.routes import build_api
from serving.settings import Settings
from tests.unit.serving.api.test_routes import HERE, problem, send, served  # noqa: F401

ELSEWHERE = ("203.0.113.7", 5000)


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    rows = [("reader", '"read"'), ("ann", '"read", "render"'), ("bob", '"read", "render"'), ("boss", '"read", "all"')]
    text = [f'[[key]]\nid = "{n}"\nsha256 = "{sha256(n.encode()).hexdigest()}"\nscopes = [{s}]\n' for n, s in rows]
    (tmp_path / "keys.toml").write_text("\n".join(text))
    return tmp_path / "keys.toml"


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def test_a_key_is_required_from_any_address(served: Callable[..., TestClient], keys: Path, film: bytes) -> None:  # noqa: F811
    for client in (served(api_keys=keys), served(client=ELSEWHERE, api_keys=keys)):
        for headers in ({}, bearer("wrong"), bearer(""), {"Authorization": "Basic ann"}, {"Authorization": "ann"}):
            answer = client.get("/v1/renders", headers=headers)
            assert problem(answer, 401) == "unauthorized" and answer.headers["www-authenticate"] == "Bearer"
            assert problem(send(client, film, headers=headers), 401) == "unauthorized"
        assert client.get("/v1/renders", headers=bearer("reader")).status_code == 200
        assert client.get("/healthz").status_code == 200


def test_scopes_and_renders_of_other_keys(served: Callable[..., TestClient], keys: Path, film: bytes) -> None:  # noqa: F811
    client = served(api_keys=keys)
    assert problem(send(client, film, headers=bearer("reader")), 403) == "forbidden"
    location = send(client, film, headers=bearer("ann")).headers["location"]
    assert client.get(location, headers=bearer("ann")).status_code == 200
    for key in ("bob", "reader"):
        for path in (location, f"{location}/events", f"{location}/result"):
            assert problem(client.get(path, headers=bearer(key)), 404) == "not-found"
        assert client.get("/v1/renders", headers=bearer(key)).json()["renders"] == []
    assert problem(client.post(f"{location}/cancel", headers=bearer("bob")), 404) == "not-found"
    assert problem(client.post(f"{location}/cancel", headers=bearer("boss")), 403) == "forbidden"
    assert client.get(location, headers=bearer("boss")).status_code == 200
    assert len(client.get("/v1/renders", headers=bearer("boss")).json()["renders"]) == 1


def test_without_keys_only_this_machine_is_served(served: Callable[..., TestClient]) -> None:  # noqa: F811
    assert served(client=HERE).get("/v1/renders").status_code == 200
    assert served(client=("::1", 5000)).get("/v1/renders").status_code == 200
    assert problem(served(client=ELSEWHERE).get("/v1/renders"), 401) == "unauthorized"
    proxied = {"X-Forwarded-For": "203.0.113.7"}
    assert problem(served(client=HERE).get("/v1/renders", headers=proxied), 401) == "unauthorized"


@pytest.mark.parametrize(
    "text", ["", "[[key]]", '[[key]]\nid = "a"\nsha256 = "00"\nscopes = ["read"]', "key = 1", "\x00"]
)
def test_an_invalid_key_file_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "keys.toml").write_text(text)
    with pytest.raises(FileInvalid, match="key"):
        ApiKeys(tmp_path / "keys.toml")


def test_a_new_key_works(tmp_path: Path, storage: Path) -> None:
    from typer import Typer

    from serving.api.keys import _create

    app = Typer()
    app.command()(_create)
    result = CliRunner().invoke(app, ["ann"])
    (tmp_path / "keys.toml").write_text(result.stdout)
    key = result.stderr.split(": ")[1].strip()
    settings: dict[str, Any] = {"storage": str(storage), "api_keys": tmp_path / "keys.toml"}
    with TestClient(build_api(Settings(**settings)), client=ELSEWHERE) as client:
        assert client.get("/v1/renders", headers=bearer(key)).status_code == 200
