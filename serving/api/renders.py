"""The routes of renders."""

from __future__ import annotations

import asyncio
from typing import Annotated

from fastapi import APIRouter, Header, Path, Query
from fastapi.responses import FileResponse, JSONResponse, RedirectResponse, Response, StreamingResponse
from pydantic import ValidationError
from starlette.requests import Request

from cluster.storage.base import open_storage, split_uri
from serving.api.auth import TheCaller, TheService
from serving.api.errors import Refused, documented, invalid
from serving.api.keys import Caller
from serving.api.schemas import RenderPage, RenderRequest, RenderView, render_view
from serving.api.service import Service
from serving.api.sse import event_stream
from serving.api.uploads import Form, received
from serving.db.models import ENDED, RenderRow

# A presigned address is good for so long.
_PRESIGNED_S = 3600
# So long an upload may wait for its turn.
_TURN_WITHIN_S = 5.0
RenderId = Annotated[str, Path(pattern="^[0-9a-f]{32}$", description="as it was given")]
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
    request: Request, service: TheService, caller: TheCaller, idempotency_key: Annotated[str | None, Header()] = None
) -> JSONResponse:
    """Ask for a render: a form with the source's file, or JSON that names a source in a bucket."""
    caller.require("render")
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "application/json":
        row, new = await service.ask(caller, await _from_json(request), None, idempotency_key)
    elif kind == "multipart/form-data":
        row, new = await _ask_with_file(request, service, caller, idempotency_key)
    else:
        raise Refused("media-type-unsupported", "is taken as a form or as JSON", got=kind or "no content type")
    headers = {"Location": f"/v1/renders/{row.id}", "Retry-After": "2"}
    view = render_view(row, {} if new else await asyncio.to_thread(service.records.chunks, row.id))
    return JSONResponse(view.model_dump(mode="json"), 202, headers=headers)


async def _from_json(request: Request) -> RenderRequest:
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > 65536:
            raise Refused("upload-too-large", "is too large for JSON", expected="64 KiB at most")
    try:
        return RenderRequest.model_validate_json(bytes(body))
    except ValidationError as error:
        raise invalid(error.errors()) from error


async def _ask_with_file(
    request: Request, service: Service, caller: Caller, again: str | None
) -> tuple[RenderRow, bool]:
    try:
        await asyncio.wait_for(service.receiving.acquire(), _TURN_WITHIN_S)
    except TimeoutError:
        raise Refused("unavailable", "too many sources are being received") from None
    try:
        async with received(request, service.settings.max_upload_bytes, "source") as form:
            return await service.ask(caller, _from_form(form), form, again)
    finally:
        service.receiving.release()


def _from_form(form: Form) -> RenderRequest:
    try:
        return RenderRequest.model_validate(form.fields, strict=False)
    except ValidationError as error:
        raise invalid(error.errors()) from error


@renders.get("/renders")
async def list_renders(
    service: TheService,
    caller: TheCaller,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    before: Annotated[str | None, Query(pattern="^[0-9a-f]{32}$")] = None,
) -> RenderPage:
    """The caller's renders, the newest first."""
    caller.require("read")
    key_id = None if "all" in caller.scopes else caller.key_id
    rows = await asyncio.to_thread(service.records.page, key_id, before, limit)
    older = f"/v1/renders?limit={limit}&before={rows[-1].id}" if len(rows) == limit else None
    return RenderPage(renders=[render_view(row, {}) for row in rows], next=older)


async def _row(render_id: str, service: Service, caller: Caller) -> RenderRow:
    caller.require("read")
    row = await asyncio.to_thread(service.records.get, render_id)
    if row is None or ("all" not in caller.scopes and row.key_id != caller.key_id):
        # Of others' renders not even that they are there is told.
        raise Refused("not-found", "there is no such render", got=render_id)
    return row


@renders.get("/renders/{render_id}", responses=documented(404))
async def get_render(render_id: RenderId, service: TheService, caller: TheCaller) -> RenderView:
    """One render: state, progress, chunks and seams, timings, the exact version of the dancer."""
    row = await _row(render_id, service, caller)
    return render_view(row, await asyncio.to_thread(service.records.chunks, render_id))


@renders.get(
    "/renders/{render_id}/events",
    response_class=StreamingResponse,
    responses=documented(404) | {200: {"content": {"text/event-stream": {}}, "description": "What happens."}},
)
async def watch_render(
    render_id: RenderId,
    service: TheService,
    caller: TheCaller,
    last_event_id: Annotated[str | None, Header(max_length=20)] = None,
) -> StreamingResponse:
    """What happens with a render, as server-sent events; with Last-Event-ID from the one after that on."""
    await _row(render_id, service, caller)
    after = (
        int(last_event_id) if last_event_id is not None and last_event_id.isascii() and last_event_id.isdigit() else 0
    )
    stream = event_stream(service.records, service.frames, render_id, after)
    return StreamingResponse(stream, media_type="text/event-stream", headers={"Cache-Control": "no-store"})


@renders.get(
    "/renders/{render_id}/frames/{number}",
    response_class=Response,
    responses=documented(404) | {200: {"content": {"image/jpeg": {}}, "description": "The newest frame of a chunk."}},
)
async def get_frame(
    render_id: RenderId,
    number: Annotated[int, Path(ge=0, le=1_000_000)],
    service: TheService,
    caller: TheCaller,
) -> Response:
    """The newest frame of a chunk that is being rendered, small."""
    await _row(render_id, service, caller)
    picture = await asyncio.to_thread(service.frames.picture, render_id, number)
    if picture is None:
        raise Refused("not-found", "there is no such frame now", got=str(number))
    return Response(picture, media_type="image/jpeg", headers={"Cache-Control": "no-store"})


@renders.get(
    "/renders/{render_id}/result",
    response_class=Response,
    responses=documented(404, 409, 410, 416)
    | {
        200: {"content": {"video/mp4": {}}, "description": "The film."},
        206: {"content": {"video/mp4": {}}, "description": "A part of it."},
        307: {"description": "Where it is, for an hour."},
    },
)
async def get_result(render_id: RenderId, service: TheService, caller: TheCaller) -> Response:
    """The film; parts of it with Range."""
    row = await _row(render_id, service, caller)
    if row.result is None:
        raise Refused("not-ready", "has no film", expected="a render that is done", got=row.state)
    store, name = split_uri(row.result["uri"])
    storage = open_storage(store)
    if await asyncio.to_thread(storage.stat, name) is None:
        raise Refused("gone", "the film is not there any more")
    address = await asyncio.to_thread(storage.presigned, name, _PRESIGNED_S)
    if address is not None:
        return RedirectResponse(address, 307)
    return FileResponse(
        f"{storage.uri}/{name}", media_type="video/mp4", filename=f"{row.dancer['name']}-{row.id[:12]}.mp4"
    )


@renders.post("/renders/{render_id}/cancel", responses=documented(404))
async def cancel_render(render_id: RenderId, service: TheService, caller: TheCaller) -> RenderView:
    """End a render that has not ended."""
    caller.require("render")
    row = await _row(render_id, service, caller)
    if row.state not in ENDED:
        ended = await asyncio.to_thread(service.records.cancel, render_id)
        row = ended or row
    return render_view(row, await asyncio.to_thread(service.records.chunks, render_id))
