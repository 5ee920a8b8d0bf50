"""Requests that schemathesis generates from the OpenAPI description, and the nasty set as uploads."""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import pytest
import schemathesis
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, given, settings
from schemathesis import Case
from schemathesis.schemas import BaseSchema
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from serving.api.routes import build_api
from serving.settings import Settings

DIGEST = sha256(b"fuzz").hexdigest()
OPERATIONS = [
    "POST /v1/renders",
    "GET /v1/renders",
    "GET /v1/renders/{render_id}",
    "GET /v1/renders/{render_id}/frames/{number}",
    "GET /v1/renders/{render_id}/result",
    "POST /v1/renders/{render_id}/cancel",
    "GET /v1/dancers",
    "GET /v1/dancers/{named}/sample",
    "GET /healthz",
    "GET /readyz",
    "GET /metrics",
]
# Its response may be endless; test_routes.py reads it.
ENDLESS = ["GET /v1/renders/{render_id}/events"]
CHECKS = [content_type_conformance, response_schema_conformance, status_code_conformance]


@pytest.fixture(scope="module")
def settings_of_module(registered: Path, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    storage = tmp_path_factory.mktemp("runs")
    (storage / "mlflow").symlink_to(registered / "mlflow")
    (storage / "keys.toml").write_text(f'[[key]]\nid = "f"\nsha256 = "{DIGEST}"\nscopes = ["read", "render"]\n')
    return Settings(storage=str(storage), max_queue=20, api_keys=storage / "keys.toml")


@pytest.fixture(scope="module")
def description(settings_of_module: Settings) -> Iterator[BaseSchema]:
    api = build_api(settings_of_module)
    yield schemathesis.openapi.from_asgi("/openapi.json", api)
    api.state.service.database.close()


# Not schemathesis' own decorators: they do not support this version of pytest.
@pytest.mark.parametrize("operation", OPERATIONS)
def test_every_response_matches_the_description(description: BaseSchema, operation: str) -> None:
    method, path = operation.split()
    cases = description[path][method].as_strategy()

    @settings(max_examples=25, deadline=None, database=None, suppress_health_check=[*HealthCheck])
    @given(case=cases)
    def check(case: Case) -> None:
        response = case.call(headers={"Authorization": "Bearer fuzz"})
        assert response.status_code < 500 or response.status_code == 503, response.text
        case.validate_response(response, checks=CHECKS)

    check()


def test_every_operation_is_tested(description: BaseSchema) -> None:
    operations = {f"{o.ok().method} {o.ok().path}" for o in description.get_all_operations()}
    assert {o.upper() for o in operations} == {o.upper() for o in [*OPERATIONS, *ENDLESS]}


@pytest.mark.footage
def test_the_nasty_set_is_accepted_or_refused_with_a_reason(settings_of_module: Settings, footage: Path) -> None:
    api = build_api(settings_of_module.model_copy(update={"max_queue": 1000, "max_per_key": 1000}))
    outcomes = {}
    with TestClient(api, client=("127.0.0.1", 1), raise_server_exceptions=False) as client:
        for path in sorted((footage / "nasty").iterdir()):
            with path.open("rb") as file:
                sent = {"data": {"dancer": "ann"}, "files": {"source": (path.name, file)}}
                answer = client.post("/v1/renders", headers={"Authorization": "Bearer fuzz"}, **sent)
            outcomes[path.name] = answer.json().get("type", "accepted").rpartition(":")[2]
            assert answer.status_code in (202, 413, 422), (path.name, answer.text)
    assert outcomes["not_a_video.mp4"] == outcomes["empty.mp4"] == "video-unreadable"
    assert outcomes["bomb_16000x8000.mp4"] == "video-too-large"
    assert outcomes["two_people_12s.mp4"] == "accepted"
