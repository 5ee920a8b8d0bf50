"""Logging of every process: one line of text, or one JSON object with correlation ids, per record."""

from __future__ import annotations

import json
import logging
import os
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from types import MappingProxyType

import ray

from cluster.core.settings import SharedSettings
from dancedist.errors import DancedistError

# Correlation ids: the render or target, the attempt, the chunk. They select one piece of work in the logs of many
# processes.
Ids = Mapping[str, str | int]
_IDS: ContextVar[Ids] = ContextVar("ids", default=MappingProxyType({}))
# The password in a URL; the credentials in a presigned URL.
_SECRETS = (
    (re.compile(r"(?<=://)([^\s/:@]*):[^\s/]*@"), r"\1:***@"),
    (re.compile(r"\b(X-Amz-(?:Credential|Signature|Security-Token)|Signature|AWSAccessKeyId)=[^&\s\"']+"), r"\1=***"),
)


class LogFormatInvalid(DancedistError):
    """DANCEDIST_LOG names an unknown log format."""

    slug = "log-unknown"


def configure() -> None:
    """Set up logging for this process: level INFO for this project, WARNING for the rest.

    A handler that the root logger already has stays. Raises LogFormatInvalid.
    """
    formatters = {"text": _TextFormatter, "json": _JsonFormatter}
    log_format = SharedSettings().log
    if log_format not in formatters:
        raise LogFormatInvalid(
            f"{SharedSettings.env_name('log')} is not a log format", expected=" or ".join(formatters), got=log_format
        )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatters[log_format]())
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    logging.getLogger("dancedist").setLevel(logging.INFO)


@contextmanager
def bound(**ids: str | int) -> Iterator[None]:
    """Add these ids to everything logged in the block, and in tasks and threads (asyncio.to_thread) it starts.

    To log with them in another process, send `ids()` there and bind them.
    """
    token = _IDS.set({**_IDS.get(), **ids})
    try:
        yield
    finally:
        _IDS.reset(token)


def ids() -> Ids:
    """The correlation ids bound here."""
    return dict(_IDS.get())


def redact_secrets(text: str) -> str:
    """Replace passwords and signatures in URLs with `***`."""
    for pattern, replacement in _SECRETS:
        text = pattern.sub(replacement, text)
    return text


class _TextFormatter(logging.Formatter):
    """The plain message, without secrets."""

    def format(self, record: logging.LogRecord) -> str:
        return redact_secrets(super().format(record))


class _JsonFormatter(logging.Formatter):
    """One JSON object per record.

    Ray's own JSON formatter does not redact secrets, and fails where an id is not a plain value.
    """

    def format(self, record: logging.LogRecord) -> str:
        fields: dict[str, str | int] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "message": record.getMessage(),
            "logger": record.name,
            "pid": os.getpid(),
            **_ray_ids(),
            **ids(),
        }
        if record.exc_info:
            fields["error"] = self.formatException(record.exc_info)
        if record.stack_info:
            fields["stack"] = record.stack_info
        plain = {name: redact_secrets(value) if isinstance(value, str) else value for name, value in fields.items()}
        return json.dumps(plain)


def _ray_ids() -> dict[str, str]:
    """Ray's job and node ids, as in `ray list jobs` and `ray list nodes`; empty without Ray."""
    if not ray.is_initialized():
        return {}
    context = ray.get_runtime_context()
    return {"job": context.get_job_id(), "node": context.get_node_id()}
