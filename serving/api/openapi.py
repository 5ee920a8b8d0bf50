"""The OpenAPI description: FastAPI's own, completed by hand."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from serving.api.schemas import RenderRequest
from serving.problems import MEDIA_TYPE

# Version of the interface, not of the program: it changes when callers must change.
VERSION = "1"


def openapi_schema(api: FastAPI) -> dict[str, Any]:
    """FastAPI's description plus the schema of the manually parsed request, API keys, and the errors' media type."""
    schema = get_openapi(title=api.title, version=VERSION, summary=api.summary, routes=api.routes)
    components = schema["components"]
    components["schemas"]["RenderRequest"] = RenderRequest.model_json_schema()
    components["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
    for path, methods in schema["paths"].items():
        for method in methods.values():
            if path.startswith("/v1") or path == "/metrics":
                method["security"] = [{"key": []}]
            for response in method["responses"].values():
                content = response.get("content", {})
                if MEDIA_TYPE in content:
                    response["content"] = {MEDIA_TYPE: content[MEDIA_TYPE]}
    return schema
