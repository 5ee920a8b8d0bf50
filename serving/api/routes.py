"""The FastAPI application. It queues renders in the records; dispatchers and replicas do the work. Needs no Ray."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from fastapi import APIRouter, FastAPI
from fastapi.responses import (
    FileResponse,
    PlainTextResponse,
    Response,
)
from fastapi.staticfiles import StaticFiles

from dancedist import __version__
from serving.api.auth import CallerDep, ServiceDep
from serving.api.errors import add_handlers, documented
from serving.api.health import metrics_text, readiness_checks, require_ready
from serving.api.openapi import openapi_schema
from serving.api.renders import renders
from serving.api.service import Service
from serving.settings import Settings
from serving.workers.dancers import DancerView

_PAGE = Path(__file__).parents[1] / "page"
# CSP: same origin only, no framing.
_SAFE = {
    "Content-Security-Policy": "default-src 'self'; img-src 'self' blob: data:; media-src 'self' blob:; "
    "frame-ancestors 'none'; form-action 'self'; base-uri 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}


def build_api(settings: Settings) -> FastAPI:
    """Build the service's ASGI application."""
    service = Service(settings)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        service.database.close()

    api = FastAPI(
        title="dancedist",
        version=__version__,
        summary="Renders dancers.",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
    )
    api.state.service = service
    add_handlers(api)
    api.include_router(renders, prefix="/v1")
    api.include_router(_dancers, prefix="/v1")
    api.include_router(_health)
    api.mount("/page", StaticFiles(directory=_PAGE))
    api.add_api_route("/", lambda: FileResponse(_PAGE / "index.html", headers=_SAFE), include_in_schema=False)
    api.openapi = lambda: openapi_schema(api)  # type: ignore[method-assign]
    return api


_dancers = APIRouter(tags=["dancers"], responses=documented(401, 403, 422, 503))
_health = APIRouter(tags=["health"])


@_dancers.get("/dancers")
async def list_dancers(service: ServiceDep, caller: CallerDep) -> list[DancerView]:
    """List the dancers that can be rendered: champions, candidates and newest versions."""
    caller.require("read")
    return await asyncio.to_thread(service.dancers.list)


@_dancers.get(
    "/dancers/{named}/sample",
    response_class=Response,
    responses=documented(404)
    | {200: {"content": {"image/png": {}}, "description": "Skeleton, rendered and real frame."}},
)
async def get_sample(named: str, service: ServiceDep, caller: CallerDep) -> Response:
    """Get the sample picture of a dancer."""
    caller.require("read")
    return Response(await asyncio.to_thread(service.dancers.sample, named), media_type="image/png")


@_health.get("/healthz", response_class=PlainTextResponse)
async def alive() -> str:
    """Liveness: the process answers."""
    return "ok"


@_health.get("/readyz", responses=documented(503))
async def ready(service: ServiceDep) -> dict[str, str]:
    """Readiness: records, storage and registry answer."""
    return await asyncio.to_thread(require_ready, readiness_checks(service.records, service.dancers, service.settings))


@_health.get("/metrics", response_class=PlainTextResponse, responses=documented(401, 403, 503))
async def metrics(service: ServiceDep, caller: CallerDep) -> PlainTextResponse:
    """Metrics in Prometheus' text format."""
    caller.require("read")
    text = await asyncio.to_thread(metrics_text, service.records)
    return PlainTextResponse(text, media_type="text/plain; version=0.0.4")
