from __future__ import annotations

import json
import re
from pathlib import Path

from fastapi.testclient import TestClient

from scripts.write_openapi import openapi_json
from serving.api.routes import build_api
from serving.settings import Settings


def test_the_committed_description_is_current() -> None:
    """After a change: python scripts/write_openapi.py."""
    committed = Path(__file__).resolve().parents[4] / "docs" / "openapi.json"
    assert committed.read_text() == openapi_json()


def test_every_reference_in_the_description_resolves(storage: Path) -> None:
    with TestClient(build_api(Settings(storage=str(storage)))) as client:
        description = client.get("/openapi.json").json()
    refs = set(re.findall(r'"#/components/schemas/(\w+)"', json.dumps(description)))
    assert refs <= {*description["components"]["schemas"]}
    error_types = {
        media_type
        for methods in description["paths"].values()
        for method in methods.values()
        for status, response in method["responses"].items()
        for media_type in response.get("content", {})
        if int(status) >= 400
    }
    assert error_types == {"application/problem+json"}
