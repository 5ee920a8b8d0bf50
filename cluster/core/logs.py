"""What every process logs: a line for people, or an object of JSON a line, with the ids of what it works on."""

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

from cluster.core.settings import Shared
from dancedist.errors import DancedistError

# What tells them apart who ask one log of many processes: render or target, which attempt at it, which chunk of it.
Ids = Mapping[str, str | int]
_IDS: ContextVar[Ids] = ContextVar("ids", default=MappingProxyType({}))
# A password before the host; and what makes a presigned address one that opens.
_SECRETS = (
    (re.compile(r"(?<=://)([^\s/:@]*):[^\s/]*@"), r"\1:***@"),
    (re.compile(r"\b(X-Amz-(?:Credential|Signature|Security-Token)|Signature|AWSAccessKeyId)=[^&\s\"']+"), r"\1=***"),
)


class LogUnknown(DancedistError):
    """A kind of log that there is none of."""

    slug = "log-unknown"


def begin() -> None:
    """Log this process: warnings of all, and more of ours. Once; what has been set up before stays.

    Raises LogUnknown.
    """
    kinds = {"text": _Text, "json": _Json}
    kind = Shared().log
    if kind not in kinds:
        raise LogUnknown(f"{Shared.variable('log')} is no kind of log", expected=" or ".join(kinds), got=kind)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(kinds[kind]())
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    logging.getLogger("dancedist").setLevel(logging.INFO)


@contextmanager
def bound(**ids: str | int) -> Iterator[None]:
    """What is logged in the block has these ids too; so have tasks and threads (asyncio.to_thread) that it starts.

    Other processes are sent `ids()`, and bind them.
    """
    token = _IDS.set({**_IDS.get(), **ids})
    try:
        yield
    finally:
        _IDS.reset(token)


def ids() -> Ids:
    """Those that are bound here."""
    return dict(_IDS.get())


def without_secrets(text: str) -> str:
    """The same, but for passwords and signatures in addresses."""
    for pattern, instead in _SECRETS:
        text = pattern.sub(instead, text)
    return text


class _Text(logging.Formatter):
    """The message, as ever."""

    def format(self, record: logging.LogRecord) -> str:
        return without_secrets(super().format(record))


class _Json(logging.Formatter):
    """Of Ray's own JSON only the idea: it lets secrets through, and fails where an id is no plain value."""

    def format(self, record: logging.LogRecord) -> str:
        told: dict[str, str | int] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "message": record.getMessage(),
            "logger": record.name,
            "pid": os.getpid(),
            **_place(),
            **ids(),
        }
        if record.exc_info:
            told["error"] = self.formatException(record.exc_info)
        if record.stack_info:
            told["stack"] = record.stack_info
        plain = {name: without_secrets(value) if isinstance(value, str) else value for name, value in told.items()}
        return json.dumps(plain)


def _place() -> dict[str, str]:
    """Ray's ids of the job and the node, where there is a Ray: `ray list jobs` and `ray list nodes` know them."""
    if not ray.is_initialized():
        return {}
    context = ray.get_runtime_context()
    return {"job": context.get_job_id(), "node": context.get_node_id()}
