"""HTTP client for S3 endpoints: which errors are transient, and how long they are retried."""

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

from cluster.core.settings import S3Settings

T = TypeVar("T")

# Also the limit for sending one part of an upload (at least 5 MiB): urllib3 has one timeout for both.
_CONNECT_TIMEOUT_S = 10.0
_READ_TIMEOUT_S, _MIN_TIMEOUT_S = 15.0, 0.5
_MIN_BACKOFF_S, _MAX_BACKOFF_S = 0.2, 5.0
# S3 error codes (HTTP 4xx) for which a retry may succeed.
_TRANSIENT_CODES = {"RequestTimeout", "OperationAborted", "ConditionalRequestConflict"}


class ServerBusy(HTTPError):
    """A transient error response: HTTP 5xx (but 501), 408 or 429."""


class HttpPool(urllib3.PoolManager):
    """HTTP client whose requests time out at the end of their operation's retry budget."""

    def __init__(self, retry_budget_s: float) -> None:
        s3 = S3Settings()
        authorities = s3.ca_bundle or s3.ssl_cert_file or certifi.where()
        super().__init__(maxsize=16, retries=False, cert_reqs="CERT_REQUIRED", ca_certs=authorities)
        self.retry_budget_s = retry_budget_s
        self._thread_local = threading.local()

    def urlopen(  # type: ignore[override]
        self, method: str, url: str, redirect: bool = True, **options: Any
    ) -> urllib3.BaseHTTPResponse:
        """See urllib3. Raises ServerBusy."""
        left_s = max(round(self._restarted_s + self.retry_budget_s - time.monotonic(), 1), _MIN_TIMEOUT_S)
        options["timeout"] = urllib3.Timeout(connect=min(left_s, _CONNECT_TIMEOUT_S), read=min(left_s, _READ_TIMEOUT_S))
        if method == "PUT":
            for key, value in getattr(self._thread_local, "put_headers", {}).items():
                options["headers"][key] = value
        response = super().urlopen(method, url, redirect, **options)
        if response.status in (408, 429) or (response.status >= 500 and response.status != 501):
            response.drain_conn()
            raise ServerBusy(f"HTTP {response.status} {response.reason or ''}".strip())
        self.restart_budget()
        return response

    def restart_budget(self) -> None:
        """Start the retry budget of this thread's operation again: the server has responded."""
        self._thread_local.restarted_s = time.monotonic()

    @property
    def _restarted_s(self) -> float:
        return getattr(self._thread_local, "restarted_s", time.monotonic())

    @contextmanager
    def put_headers(self, **headers: str) -> Iterator[None]:
        """Add unsigned headers (`_` for `-` in names) to this thread's PUT requests in the block."""
        self._thread_local.put_headers = {key.replace("_", "-"): value for key, value in headers.items()}
        try:
            yield
        finally:
            self._thread_local.put_headers = {}

    def retry(self, once: Callable[[], T], progress: Callable[[], int] = lambda: 0) -> T:
        """Result of `once`. Transient errors are retried until `retry_budget_s` passes without a response or progress.

        `progress` returns how much is done, such as bytes; an attempt that gets further than all before it restarts the
        budget.
        """
        self.restart_budget()
        since_s, furthest, wait_s = self._restarted_s, progress(), _MIN_BACKOFF_S
        while True:
            try:
                return once()
            except Exception as error:
                if not _is_transient(error):
                    raise
                if progress() > furthest:
                    since_s, furthest, wait_s = self._restarted_s, progress(), _MIN_BACKOFF_S
                left_s = since_s + self.retry_budget_s - time.monotonic()
                if left_s <= 0:
                    raise
            time.sleep(min(wait_s * random.uniform(0.5, 1), left_s))
            wait_s = min(2 * wait_s, _MAX_BACKOFF_S)


def _is_transient(error: Exception) -> bool:
    if isinstance(error, S3Error):
        return error.code in _TRANSIENT_CODES
    # urllib3 errors that are ValueErrors mean an invalid URL.
    return isinstance(error, HTTPError) and not isinstance(error, ValueError) and not _is_certificate_error(error)


def _is_certificate_error(error: HTTPError) -> bool:
    return any(isinstance(reason, ssl.SSLCertVerificationError) for reason in error.args)
