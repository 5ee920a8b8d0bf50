"""A multipart request as it comes in: fields, and one file that goes to the disk and never into memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import Field, File, create_form_parser
from starlette.requests import ClientDisconnect, Request

from serving.api.errors import Refused

_MAX_FIELDS, _MAX_FIELD_BYTES = 16, 4096
# Boundaries, headers and fields, beside the file.
_ROOM_BYTES = 200_000


@dataclass
class Form:
    """What was sent: `file` lies in a temporary folder, `file_name` is what its sender calls it."""

    fields: dict[str, str] = field(default_factory=dict)
    file: Path | None = None
    file_name: str = ""
    sha256: str = ""


@asynccontextmanager
async def received(request: Request, max_bytes: int, file_field: str) -> AsyncIterator[Form]:
    """The form, and its file as long as the block runs. Raises Refused."""
    length = request.headers.get("content-length", "")
    if length.isdigit() and int(length) > max_bytes + _ROOM_BYTES:
        raise _too_large(max_bytes)
    with TemporaryDirectory(prefix="dancedist-upload-") as folder:
        yield await _received(request, max_bytes, file_field, Path(folder))


async def _received(request: Request, max_bytes: int, file_field: str, folder: Path) -> Form:
    form, files, fields = Form(), list[File](), list[Field]()
    bounds = {"MAX_FIELDS": _MAX_FIELDS, "MAX_FIELD_SIZE": _MAX_FIELD_BYTES, "MAX_MEMORY_FILE_SIZE": 0}
    where = {"UPLOAD_DIR": str(folder).encode(), "UPLOAD_DELETE_TMP": False}
    try:
        headers = {"Content-Type": request.headers.get("content-type", "").encode()}
        parser = create_form_parser(headers, fields.append, files.append, bounds | where)
        total = 0
        async for part in request.stream():
            total += len(part)
            if total > max_bytes + _ROOM_BYTES:
                raise _too_large(max_bytes)
            # Writes to the disk.
            await asyncio.to_thread(parser.write, part)
        await asyncio.to_thread(parser.finalize)
    except (FormParserError, ValueError) as error:
        raise Refused("request-invalid", "is no multipart form", got=str(error)) from error
    except ClientDisconnect as error:
        raise Refused("request-invalid", "the upload broke off") from error
    for one in fields:
        form.fields[_text(one.field_name)] = _text(one.value)
    given = [file for file in files if _text(file.field_name) == file_field]
    if len(given) != len(files) or len(given) > 1:
        raise Refused(
            "request-invalid", "one file, please", expected=f"in the field {file_field!r}", got=str(len(files))
        )
    if given:
        await asyncio.to_thread(_keep, given[0], form, max_bytes)
    return form


def _keep(file: File, form: Form, max_bytes: int) -> None:
    if file.size > max_bytes:
        raise _too_large(max_bytes)
    if file.in_memory:
        file.flush_to_disk()
    file.file_object.flush()
    assert file.actual_file_name is not None
    form.file = Path(_text(file.actual_file_name))
    form.file_name = PurePosixPath(_text(file.file_name).replace("\\", "/")).name or "source"
    digest = sha256()
    with form.file.open("rb") as opened:
        while block := opened.read(1 << 20):
            digest.update(block)
    form.sha256 = digest.hexdigest()


def _text(value: bytes | str | None) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value or ""


def _too_large(max_bytes: int) -> Refused:
    return Refused("upload-too-large", "the upload is too large", expected=f"{max_bytes} bytes at most")
