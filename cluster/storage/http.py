"""HTTP to an S3 endpoint that may be away for a while: which faults pass, and how long they are borne."""

from __future__ import annotations

import random
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import certifi
import urllib3
from minio.error import S3Error
from urllib3.exceptions import HTTPError

from cluster.core.settings import S3

T = TypeVar("T")

# To connect, and to send one part (at least 5 MiB) down a slow line: urllib3 has one limit for both.
_SEND_S = 10.0
_READ_S, _SHORTEST_S = 15.0, 0.5
_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.2, 5.0
# Refusals of S3 (HTTP 4xx) that another try may better.
_PASSING = {"RequestTimeout", "OperationAborted", "ConditionalRequestConflict"}


class ServerBusy(HTTPError):
    """An answer that is no answer: HTTP 5xx and the like."""


class Wire(urllib3.PoolManager):
    """An HTTP client whose every request is bounded by what is left of its operation's patience."""

    def __init__(self, retry_for_s: float) -> None:
        s3 = S3()
        authorities = s3.ca_bundle or s3.ssl_cert_file or certifi.where()
        super().__init__(maxsize=16, retries=False, cert_reqs="CERT_REQUIRED", ca_certs=authorities)
        self.retry_for_s = retry_for_s
        self._of_thread = threading.local()

    def urlopen(  # type: ignore[override]
        self, method: str, url: str, redirect: bool = True, **options: Any
    ) -> urllib3.BaseHTTPResponse:
        """See urllib3. Raises ServerBusy."""
        left_s = max(round(self._heard_s + self.retry_for_s - time.monotonic(), 1), _SHORTEST_S)
        options["timeout"] = urllib3.Timeout(connect=min(left_s, _SEND_S), read=min(left_s, _READ_S))
        if method == "PUT":
            for key, value in getattr(self._of_thread, "put_headers", {}).items():
                options["headers"][key] = value
        answer = super().urlopen(method, url, redirect, **options)
        if answer.status in (408, 429) or (answer.status >= 500 and answer.status != 501):
            answer.drain_conn()
            raise ServerBusy(f"HTTP {answer.status} {answer.reason or ''}".strip())
        self.heard()
        return answer

    def heard(self) -> None:
        """Note a sign of life: patience counts from the last one."""
        self._of_thread.heard_s = time.monotonic()

    @property
    def _heard_s(self) -> float:
        return getattr(self._of_thread, "heard_s", time.monotonic())

    @contextmanager
    def put_headers(self, **headers: str) -> Iterator[None]:
        """Headers, with `_` for `-`, that this thread's PUT requests carry beside what minio signs."""
        self._of_thread.put_headers = {key.replace("_", "-"): value for key, value in headers.items()}
        try:
            yield
        finally:
            self._of_thread.put_headers = {}

    def persist(self, once: Callable[[], T], progress: Callable[[], int] = lambda: 0) -> T:
        """What `once` returns, tried again while faults pass, until `retry_for_s` without an answer or progress.

        `progress` grows with what is done; an attempt that gets further than any before it renews the patience.
        """
        self.heard()
        since_s, furthest, wait_s = self._heard_s, progress(), _FIRST_WAIT_S
        while True:
            try:
                return once()
            except Exception as error:
                if not _passes(error):
                    raise
                if progress() > furthest:
                    since_s, furthest, wait_s = self._heard_s, progress(), _FIRST_WAIT_S
                left_s = since_s + self.retry_for_s - time.monotonic()
                if left_s <= 0:
                    raise
            time.sleep(min(wait_s * random.uniform(0.5, 1), left_s))
            wait_s = min(2 * wait_s, _LONGEST_WAIT_S)


def _passes(error: Exception) -> bool:
    if isinstance(error, S3Error):
        return error.code in _PASSING
    # A ValueError of urllib3's is an address that never works.
    return isinstance(error, HTTPError) and not isinstance(error, ValueError) and not _distrusted(error)


def _distrusted(error: HTTPError) -> bool:
    return any(isinstance(reason, ssl.SSLCertVerificationError) for reason in error.args)
