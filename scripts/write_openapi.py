"""Write docs/openapi.json: `python scripts/write_openapi.py`, after a change of the HTTP interface."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from serving.api.routes import build_api  # noqa: E402
from serving.settings import Settings  # noqa: E402


def openapi_json() -> str:
    """Return the OpenAPI document as docs/openapi.json has it."""
    with TemporaryDirectory() as folder:
        return json.dumps(build_api(Settings(storage=folder)).openapi(), indent=1) + "\n"


if __name__ == "__main__":
    (ROOT / "docs" / "openapi.json").write_text(openapi_json())
