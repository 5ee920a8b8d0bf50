"""Problem details (RFC 9457): one type and one HTTP status per error slug. Independent of FastAPI."""

from __future__ import annotations

from http import HTTPStatus

from pydantic import BaseModel

from cluster.core.error_records import ErrorRecord
from dancedist.errors import DancedistError

MEDIA_TYPE = "application/problem+json"
_TYPES = "urn:dancedist:problem:"

# Slugs not listed here map to 422.
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
    """An error as RFC 9457 describes it.

    `type` is a stable URN. `file` names the file or thing at fault, `expected` and `got` say what is wrong with it.
    """

    type: str
    title: str
    status: int
    detail: str
    file: str | None = None
    expected: str | None = None
    got: str | None = None


class RequestRejected(DancedistError):
    """The request is rejected; `slug` says why."""

    def __init__(self, slug: str, message: str, **details: str | None) -> None:
        super().__init__(message, **details)
        self.slug = slug  # type: ignore[misc]


def to_problem(error: DancedistError | ErrorRecord) -> Problem:
    """Convert an error to problem details."""
    status = _STATUS.get(error.slug, 422)
    title = error.slug.replace("-", " ")
    if isinstance(error, ErrorRecord):
        return Problem(type=_TYPES + error.slug, title=title, status=status, detail=error.message)
    details = {"file": error.file, "expected": error.expected, "got": error.got}
    return Problem(type=_TYPES + error.slug, title=title, status=status, detail=error.message, **details)


def status_problem(status: int, detail: str) -> Problem:
    """Problem details for an HTTP status that the web framework raises itself."""
    title = HTTPStatus(status).phrase
    slug = _OF_STATUS.get(status) or title.lower().replace(" ", "-")
    return Problem(type=_TYPES + slug, title=title, status=status, detail=detail)
