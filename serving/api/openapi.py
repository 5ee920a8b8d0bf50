"""What OpenAPI says of the service, beyond what FastAPI finds by itself."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from serving.api.errors import MEDIA_TYPE
from serving.api.schemas import RenderRequest

# Of the interface, not of the program: it changes when callers must.
VERSION = "1"


def describe(api: FastAPI) -> dict[str, Any]:
    """The whole description: the request that is read by hand, API keys, and errors of one media type."""
    made = get_openapi(title=api.title, version=VERSION, summary=api.summary, routes=api.routes)
    components = made["components"]
    components["schemas"]["RenderRequest"] = RenderRequest.model_json_schema()
    components["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
    for path, methods in made["paths"].items():
        for method in methods.values():
            if path.startswith("/v1") or path == "/metrics":
                method["security"] = [{"key": []}]
            for response in method["responses"].values():
                content = response.get("content", {})
                if MEDIA_TYPE in content:
                    response["content"] = {MEDIA_TYPE: content[MEDIA_TYPE]}
    return made
