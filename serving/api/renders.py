"""HTTP routes of renders."""

from __future__ import annotations

import asyncio
from typing import Annotated

from fastapi import APIRouter, Header, Path, Query
from fastapi.responses import FileResponse, JSONResponse, RedirectResponse, Response, StreamingResponse
from pydantic import ValidationError
from starlette.requests import Request

from cluster.storage.open import open_storage, split_uri
from serving.api.auth import CallerDep, ServiceDep
from serving.api.errors import documented, invalid_request
from serving.api.keys import Caller
from serving.api.schemas import RenderPage, RenderRequest, RenderView, render_view
from serving.api.service import Service
from serving.api.sse import event_stream
from serving.api.uploads import UploadForm, receive_form
from serving.db.models import ENDED, RenderRow
from serving.problems import RequestRejected

# Lifetime of a presigned URL.
_PRESIGNED_S = 3600
# How long an upload waits for a free slot before 503.
_UPLOAD_SLOT_WITHIN_S = 5.0
RenderId = Annotated[str, Path(pattern="^[0-9a-f]{32}$", description="id of the render")]
renders = APIRouter(tags=["renders"], responses=documented(401, 403, 422, 503))
_FORM = {
    "type": "object",
    "required": ["dancer", "source"],
    "properties": {
        "dancer": {"type": "string"},
        "source": {"type": "string", "format": "binary"},
        "label": {"type": "boolean"},
        "webhook": {"type": "string"},
    },
}
_BODY = {
    "required": True,
    "content": {
        "multipart/form-data": {"schema": _FORM},
        "application/json": {"schema": {"$ref": "#/components/schemas/RenderRequest"}},
    },
}


@renders.post(
    "/renders",
    status_code=202,
    response_model=RenderView,
    openapi_extra={"requestBody": _BODY},
    responses=documented(404, 409, 413, 415, 429) | {202: {"model": RenderView, "description": "It is queued."}},
)
async def ask_for_render(
    request: Request, service: ServiceDep, caller: CallerDep, idempotency_key: Annotated[str | None, Header()] = None
) -> JSONResponse:
    """Request a render: send a form with the source file, or JSON that names a source in a bucket."""
    caller.require("render")
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type == "application/json":
        row, new = await service.create_render(caller, await _from_json(request), None, idempotency_key)
    elif media_type == "multipart/form-data":
        row, new = await _create_with_file(request, service, caller, idempotency_key)
    else:
        raise RequestRejected(
            "media-type-unsupported", "must be sent as a form or as JSON", got=media_type or "no content type"
        )
    headers = {"Location": f"/v1/renders/{row.id}", "Retry-After": "2"}
    view = render_view(row, {} if new else await asyncio.to_thread(service.records.chunks, row.id))
    return JSONResponse(view.model_dump(mode="json"), 202, headers=headers)


async def _from_json(request: Request) -> RenderRequest:
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > 65536:
            raise RequestRejected("upload-too-large", "the JSON body is too large", expected="at most 64 KiB")
    try:
        return RenderRequest.model_validate_json(bytes(body))
    except ValidationError as error:
        raise invalid_request(error.errors()) from error


async def _create_with_file(
    request: Request, service: Service, caller: Caller, idempotency_key: str | None
) -> tuple[RenderRow, bool]:
    try:
        await asyncio.wait_for(service.upload_slots.acquire(), _UPLOAD_SLOT_WITHIN_S)
    except TimeoutError:
        raise RequestRejected("unavailable", "too many uploads are in progress") from None
    try:
        async with receive_form(request, service.settings.max_upload_bytes, "source") as form:
            return await service.create_render(caller, _from_form(form), form, idempotency_key)
    finally:
        service.upload_slots.release()


def _from_form(form: UploadForm) -> RenderRequest:
    try:
        return RenderRequest.model_validate(form.fields, strict=False)
    except ValidationError as error:
        raise invalid_request(error.errors()) from error


@renders.get("/renders")
async def list_renders(
    service: ServiceDep,
    caller: CallerDep,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    before: Annotated[str | None, Query(pattern="^[0-9a-f]{32}$")] = None,
) -> RenderPage:
    """List the caller's renders, newest first."""
    caller.require("read")
    key_id = None if "all" in caller.scopes else caller.key_id
    rows = await asyncio.to_thread(service.records.page, key_id, before, limit)
    older = f"/v1/renders?limit={limit}&before={rows[-1].id}" if len(rows) == limit else None
    return RenderPage(renders=[render_view(row, {}) for row in rows], next=older)


async def _row(render_id: str, service: Service, caller: Caller) -> RenderRow:
    caller.require("read")
    row = await asyncio.to_thread(service.records.get, render_id)
    if row is None or ("all" not in caller.scopes and row.key_id != caller.key_id):
        # Do not reveal that another key's render exists.
        raise RequestRejected("not-found", "there is no such render", got=render_id)
    return row


@renders.get("/renders/{render_id}", responses=documented(404))
async def get_render(render_id: RenderId, service: ServiceDep, caller: CallerDep) -> RenderView:
    """Get one render: state, progress, chunks and seams, timings, the exact version of the dancer."""
    row = await _row(render_id, service, caller)
    return render_view(row, await asyncio.to_thread(service.records.chunks, render_id))


@renders.get(
    "/renders/{render_id}/events",
    response_class=StreamingResponse,
    responses=documented(404) | {200: {"content": {"text/event-stream": {}}, "description": "Events of the render."}},
)
async def watch_render(
    render_id: RenderId,
    service: ServiceDep,
    caller: CallerDep,
    last_event_id: Annotated[str | None, Header(max_length=20)] = None,
) -> StreamingResponse:
    """Stream the events of a render as server-sent events; Last-Event-ID continues after that event."""
    await _row(render_id, service, caller)
    after = (
        int(last_event_id) if last_event_id is not None and last_event_id.isascii() and last_event_id.isdigit() else 0
    )
    stream = event_stream(service.records, service.previews, render_id, after)
    return StreamingResponse(stream, media_type="text/event-stream", headers={"Cache-Control": "no-store"})


@renders.get(
    "/renders/{render_id}/frames/{number}",
    response_class=Response,
    responses=documented(404) | {200: {"content": {"image/jpeg": {}}, "description": "The newest frame of a chunk."}},
)
async def get_frame(
    render_id: RenderId,
    number: Annotated[int, Path(ge=0, le=1_000_000)],
    service: ServiceDep,
    caller: CallerDep,
) -> Response:
    """Get a small preview of the newest frame of a chunk that is being rendered."""
    await _row(render_id, service, caller)
    picture = await asyncio.to_thread(service.previews.picture, render_id, number)
    if picture is None:
        raise RequestRejected("not-found", "there is no preview of this chunk now", got=str(number))
    return Response(picture, media_type="image/jpeg", headers={"Cache-Control": "no-store"})


@renders.get(
    "/renders/{render_id}/result",
    response_class=Response,
    responses=documented(404, 409, 410, 416)
    | {
        200: {"content": {"video/mp4": {}}, "description": "The film."},
        206: {"content": {"video/mp4": {}}, "description": "The requested range."},
        307: {"description": "Redirect to the film; the address is valid for an hour."},
    },
)
async def get_result(render_id: RenderId, service: ServiceDep, caller: CallerDep) -> Response:
    """Download the film, or a part of it with Range."""
    row = await _row(render_id, service, caller)
    if row.result is None:
        raise RequestRejected("not-ready", "has no film", expected="a render that is done", got=row.state)
    store, name = split_uri(row.result["uri"])
    storage = open_storage(store)
    if await asyncio.to_thread(storage.stat, name) is None:
        raise RequestRejected("gone", "the film is no longer stored")
    address = await asyncio.to_thread(storage.presigned, name, _PRESIGNED_S)
    if address is not None:
        return RedirectResponse(address, 307)
    return FileResponse(
        f"{storage.uri}/{name}", media_type="video/mp4", filename=f"{row.dancer['name']}-{row.id[:12]}.mp4"
    )


@renders.post("/renders/{render_id}/cancel", responses=documented(404))
async def cancel_render(render_id: RenderId, service: ServiceDep, caller: CallerDep) -> RenderView:
    """Cancel a render that has not ended."""
    caller.require("render")
    row = await _row(render_id, service, caller)
    if row.state not in ENDED:
        cancelled = await asyncio.to_thread(service.records.cancel, render_id)
        row = cancelled or row
    return render_view(row, await asyncio.to_thread(service.records.chunks, render_id))
