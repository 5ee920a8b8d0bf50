"""Receive a multipart form: text fields, and one file that is streamed to disk."""

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

from serving.problems import RequestRejected

_MAX_FIELDS, _MAX_FIELD_BYTES = 16, 4096
# Allowance for boundaries, headers and fields, in addition to the file.
_OVERHEAD_BYTES = 200_000


@dataclass
class UploadForm:
    """A received form: `file` is in a temporary folder, `file_name` is the sender's name for it."""

    fields: dict[str, str] = field(default_factory=dict)
    file: Path | None = None
    file_name: str = ""
    sha256: str = ""


@asynccontextmanager
async def receive_form(request: Request, max_bytes: int, file_field: str) -> AsyncIterator[UploadForm]:
    """Receive the form; its file exists until the block ends. Raises RequestRejected."""
    length = request.headers.get("content-length", "")
    if length.isdigit() and int(length) > max_bytes + _OVERHEAD_BYTES:
        raise _too_large(max_bytes)
    with TemporaryDirectory(prefix="dancedist-upload-") as folder:
        yield await _receive(request, max_bytes, file_field, Path(folder))


async def _receive(request: Request, max_bytes: int, file_field: str, folder: Path) -> UploadForm:
    form, files, fields = UploadForm(), list[File](), list[Field]()
    limits = {"MAX_FIELDS": _MAX_FIELDS, "MAX_FIELD_SIZE": _MAX_FIELD_BYTES, "MAX_MEMORY_FILE_SIZE": 0}
    upload_folder = {"UPLOAD_DIR": str(folder).encode(), "UPLOAD_DELETE_TMP": False}
    try:
        headers = {"Content-Type": request.headers.get("content-type", "").encode()}
        parser = create_form_parser(headers, fields.append, files.append, limits | upload_folder)
        total = 0
        async for part in request.stream():
            total += len(part)
            if total > max_bytes + _OVERHEAD_BYTES:
                raise _too_large(max_bytes)
            # Blocks: it writes to disk.
            await asyncio.to_thread(parser.write, part)
        await asyncio.to_thread(parser.finalize)
    except (FormParserError, ValueError) as error:
        raise RequestRejected("request-invalid", "is not a valid multipart form", got=str(error)) from error
    except ClientDisconnect as error:
        raise RequestRejected("request-invalid", "the upload was interrupted") from error
    for form_field in fields:
        form.fields[_text(form_field.field_name)] = _text(form_field.value)
    sources = [file for file in files if _text(file.field_name) == file_field]
    if len(sources) != len(files) or len(sources) > 1:
        raise RequestRejected(
            "request-invalid",
            "has too many or unexpected files",
            expected=f"one file in {file_field!r}",
            got=str(len(files)),
        )
    if sources:
        await asyncio.to_thread(_save, sources[0], form, max_bytes)
    return form


def _save(file: File, form: UploadForm, max_bytes: int) -> None:
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


def _too_large(max_bytes: int) -> RequestRejected:
    return RequestRejected("upload-too-large", "the upload is too large", expected=f"at most {max_bytes} bytes")
