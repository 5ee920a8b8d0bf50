"""Error responses over HTTP: problem details (RFC 9457), one type per slug."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from sqlalchemy.exc import SQLAlchemyError
from starlette.exceptions import HTTPException

from dancedist.errors import DancedistError
from serving.problems import MEDIA_TYPE, Problem, RequestRejected, status_problem, to_problem

log = logging.getLogger("dancedist")
RETRY_AFTER_S = 10


def invalid_request(errors: Sequence[Any]) -> RequestRejected:
    """Convert pydantic's errors about a request to a rejection."""
    messages = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in errors[:5])
    return RequestRejected("request-invalid", messages or "is invalid")


def problem_response(problem: Problem) -> JSONResponse:
    """Build the response; 429 and 503 carry Retry-After."""
    headers = {"Retry-After": str(RETRY_AFTER_S)} if problem.status in (429, 503) else {}
    if problem.status == 401:
        headers = {"WWW-Authenticate": "Bearer"}
    content = problem.model_dump(exclude_none=True)
    return JSONResponse(content, problem.status, headers=headers, media_type=MEDIA_TYPE)


def add_handlers(api: FastAPI) -> None:
    """Make every error response of the application a Problem."""

    @api.exception_handler(DancedistError)
    async def _known(_: Request, error: DancedistError) -> JSONResponse:
        return problem_response(to_problem(error))

    @api.exception_handler(RequestValidationError)
    async def _invalid(_: Request, error: RequestValidationError) -> JSONResponse:
        return problem_response(to_problem(invalid_request(error.errors())))

    @api.exception_handler(HTTPException)
    async def _http(_: Request, error: HTTPException) -> JSONResponse:
        response = problem_response(status_problem(error.status_code, str(error.detail)))
        response.headers.update(error.headers or {})
        return response

    @api.exception_handler(SQLAlchemyError)
    async def _database(_: Request, error: SQLAlchemyError) -> JSONResponse:
        log.warning("warning: the database does not answer: %s", str(error).splitlines()[0])
        return problem_response(to_problem(RequestRejected("unavailable", "the database does not answer")))

    @api.exception_handler(Exception)
    async def _bug(_: Request, error: Exception) -> JSONResponse:
        log.exception("a request failed with an unexpected error")
        return problem_response(to_problem(RequestRejected("unexpected", f"a bug: {type(error).__name__}")))


def documented(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The `responses` argument of a route that may answer with these error statuses."""
    content = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return {s: {"description": HTTPStatus(s).phrase, "content": content, "model": Problem} for s in statuses}
