"""Errors over HTTP: RFC 9457, one type for every slug."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from sqlalchemy.exc import SQLAlchemyError
from starlette.exceptions import HTTPException

from cluster.core.error_records import Fault
from dancedist.errors import DancedistError

log = logging.getLogger("dancedist")
MEDIA_TYPE = "application/problem+json"
_TYPES = "urn:dancedist:problem:"
RETRY_AFTER_S = 10

# What is not the request's fault as it stands is 422.
_STATUS = {
    "unauthorized": 401,
    "forbidden": 403,
    "consent-missing": 403,
    "not-found": 404,
    "dancer-unknown": 404,
    "storage-missing": 404,
    "method-not-allowed": 405,
    "not-ready": 409,
    "idempotency-key-reused": 409,
    "gone": 410,
    "upload-too-large": 413,
    "video-too-large": 413,
    "media-type-unsupported": 415,
    "range-unsatisfiable": 416,
    "too-many-renders": 429,
    "queue-full": 503,
    "unavailable": 503,
    "storage-unavailable": 503,
    "registry-unavailable": 503,
    "unexpected": 500,
}
_OF_STATUS = {
    401: "unauthorized",
    403: "forbidden",
    404: "not-found",
    405: "method-not-allowed",
    415: "media-type-unsupported",
}


class Problem(BaseModel):
    """RFC 9457. `type` is a URN that never changes; `file`, `expected` and `got` tell what is wrong with what."""

    type: str
    title: str
    status: int
    detail: str
    file: str | None = None
    expected: str | None = None
    got: str | None = None


class Refused(DancedistError):
    """A request that is not done; `slug` says why."""

    def __init__(self, slug: str, message: str, **details: str | None) -> None:
        super().__init__(message, **details)
        self.slug = slug  # type: ignore[misc]


def invalid(errors: Sequence[Any]) -> Refused:
    """What pydantic says of a request."""
    told = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in errors[:5])
    return Refused("request-invalid", told or "is not what is expected")


def problem_of(error: DancedistError | Fault) -> Problem:
    """As it goes over the wire."""
    status = _STATUS.get(error.slug, 422)
    title = error.slug.replace("-", " ")
    if isinstance(error, Fault):
        return Problem(type=_TYPES + error.slug, title=title, status=status, detail=error.message)
    details = {"file": error.file, "expected": error.expected, "got": error.got}
    return Problem(type=_TYPES + error.slug, title=title, status=status, detail=error.message, **details)


def answer(problem: Problem) -> JSONResponse:
    """The response; one that may be tried again says when."""
    again = {"Retry-After": str(RETRY_AFTER_S)} if problem.status in (429, 503) else {}
    if problem.status == 401:
        again = {"WWW-Authenticate": "Bearer"}
    content = problem.model_dump(exclude_none=True)
    return JSONResponse(content, problem.status, headers=again, media_type=MEDIA_TYPE)


def add_handlers(api: FastAPI) -> None:
    """Every error of the service is a Problem."""

    @api.exception_handler(DancedistError)
    async def _known(_: Request, error: DancedistError) -> JSONResponse:
        return answer(problem_of(error))

    @api.exception_handler(RequestValidationError)
    async def _invalid(_: Request, error: RequestValidationError) -> JSONResponse:
        return answer(problem_of(invalid(error.errors())))

    @api.exception_handler(HTTPException)
    async def _http(_: Request, error: HTTPException) -> JSONResponse:
        slug = _OF_STATUS.get(error.status_code)
        title = HTTPStatus(error.status_code).phrase
        kind = _TYPES + (slug or title.lower().replace(" ", "-"))
        made = answer(Problem(type=kind, title=title, status=error.status_code, detail=str(error.detail)))
        made.headers.update(error.headers or {})
        return made

    @api.exception_handler(SQLAlchemyError)
    async def _database(_: Request, error: SQLAlchemyError) -> JSONResponse:
        log.warning("warning: the database does not answer: %s", str(error).splitlines()[0])
        return answer(problem_of(Refused("unavailable", "the database does not answer")))

    @api.exception_handler(Exception)
    async def _bug(_: Request, error: Exception) -> JSONResponse:
        log.exception("a request failed")
        return answer(problem_of(Refused("unexpected", f"a bug: {type(error).__name__}")))


def documented(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """For a route's `responses`."""
    content = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return {s: {"description": HTTPStatus(s).phrase, "content": content, "model": Problem} for s in statuses}
