"""Storage in an S3 bucket."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from datetime import timedelta
from hashlib import file_digest, sha256
from io import BytesIO
from itertools import islice
from pathlib import Path
from typing import BinaryIO, TypeVar
from uuid import uuid4
from xml.etree.ElementTree import ParseError

from minio import Minio
from minio.credentials.providers import EnvAWSProvider
from minio.datatypes import Object
from minio.error import MinioException, S3Error
from minio.helpers import MIN_PART_SIZE, DictType
from urllib3.exceptions import HTTPError

from cluster.core.settings import S3Settings
from cluster.storage.base import (
    RETRY_BUDGET_S,
    Entry,
    Storage,
    StorageDamaged,
    StorageMissing,
    StorageUnavailable,
    checked_name,
    checked_prefix,
    is_partial,
    os_errors_as_unavailable,
    partial_path,
)
from cluster.storage.http import HttpPool, ServerBusy

T = TypeVar("T")

_CHUNK_BYTES = 1 << 20
_PAGE = 1000
_SHA256 = "x-amz-meta-sha256"


class S3Storage(Storage):
    """A prefix of an S3 bucket. Transient errors are retried for `retry_budget_s`.

    Each object has its SHA-256 as metadata (`x-amz-meta-sha256`); reads verify it. Objects written by other tools may
    have none.
    """

    def __init__(self, uri: str, retry_budget_s: float = RETRY_BUDGET_S) -> None:
        uri = uri.rstrip("/")
        super().__init__(uri, retry_budget_s)
        self._bucket, _, prefix = uri.removeprefix("s3://").partition("/")
        self._root = checked_prefix(prefix) + "/" if prefix else ""
        self._http = HttpPool(retry_budget_s)
        self._endpoint, self._client = _client(uri, self._http)
        self._bucket_known = False

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.uri, self.retry_budget_s)

    def stat(self, name: str) -> Entry | None:
        """See Storage."""
        key = self._key(name)
        try:
            stats = self._with_retries(name, lambda: self._client.stat_object(self._bucket, key))
        except StorageMissing:
            self._require_bucket()
            return None
        return Entry(name, stats.size or 0, stats.etag or "")

    def list(self, prefix: str = "") -> Iterator[Entry]:
        """See Storage. Holds one page of names in memory at a time."""
        begin, last = self._root + checked_prefix(prefix), ""

        def page() -> list[Object]:
            objects = self._client.list_objects(self._bucket, begin, recursive=True, start_after=last)
            return [*islice(objects, _PAGE)]

        while items := self._with_retries(prefix, page):
            for item in items:
                last = str(item.object_name)
                # Other tools mark empty folders with such objects.
                if not last.endswith("/") and not is_partial(last):
                    yield Entry(last.removeprefix(self._root), item.size or 0, item.etag or "")
            if len(items) < _PAGE:
                return

    def read(self, name: str) -> bytes:
        """See Storage."""
        key = self._key(name)

        def once() -> bytes:
            with closing(self._client.get_object(self._bucket, key)) as response:
                data = bytes(response.read())
                self._verify_checksum(name, response.headers.get(_SHA256), sha256(data).hexdigest())
                return data

        return self._with_retries(name, once)

    def download(self, name: str, path: Path) -> None:
        """See Storage. An interrupted download continues where it stopped if the object is unchanged."""
        key = self._key(name)
        with os_errors_as_unavailable(path), partial_path(path) as partial:
            with partial.open("x+b") as file:
                conditions: dict[str, str] = {}
                expected = self._with_retries(name, lambda: self._fetch_rest(key, file, conditions), file.tell)
                file.seek(0)
                self._verify_checksum(name, expected, file_digest(file, "sha256").hexdigest())
            os.replace(partial, path)

    def _fetch_rest(self, key: str, file: BinaryIO, conditions: dict[str, str]) -> str | None:
        """Append the rest of the object to `file`; returns the object's checksum, if it has one.

        `conditions` are request headers: after the first response, `If-Match` with the object's ETag.
        """
        try:
            response = self._client.get_object(self._bucket, key, offset=file.tell(), request_headers={**conditions})
        except S3Error as error:
            if error.code not in ("PreconditionFailed", "InvalidRange"):
                raise
            file.truncate(file.seek(0))
            conditions.clear()
            raise ServerBusy("the object was replaced during the download") from error
        with closing(response):
            if response.status != 206:
                file.truncate(file.seek(0))
            conditions["If-Match"] = response.headers.get("ETag", "*")
            for chunk in response.stream(_CHUNK_BYTES):
                file.write(chunk)
                self._http.restart_budget()
            return response.headers.get(_SHA256)

    def _verify_checksum(self, name: str, expected: str | None, got: str) -> None:
        if expected is not None and got != expected:
            raise StorageDamaged("does not match its checksum", file=f"{self.uri}/{name}", expected=expected, got=got)

    def presigned(self, name: str, seconds: int) -> str | None:
        """See Storage. The host in the URL is that of the endpoint as this process knows it."""
        url = self._client.presigned_get_object(self._bucket, self._key(name), timedelta(seconds=seconds))
        return str(url)

    def write(self, name: str, data: bytes, *, if_absent: bool = False) -> bool:
        """See Storage."""
        key = self._key(name)
        if if_absent:
            writer = uuid4().hex
            return self._with_retries(name, lambda: self._put_if_absent(key, data, writer))
        checksum = sha256(data).hexdigest()
        self._with_retries(name, lambda: self._put(key, BytesIO(data), len(data), checksum))
        return True

    def upload(self, path: Path, name: str) -> None:
        """See Storage. Holds one part of the file in memory at a time."""
        key = self._key(name)
        with os_errors_as_unavailable(path), path.open("rb") as file:

            def once() -> None:
                file.seek(0)
                checksum = file_digest(file, "sha256").hexdigest()
                file.seek(0)
                self._http.restart_budget()
                self._put(key, file, os.fstat(file.fileno()).st_size, checksum)

            self._with_retries(name, once, file.tell)

    def delete(self, name: str) -> None:
        """See Storage."""
        key = self._key(name)
        with suppress(StorageMissing):
            self._with_retries(name, lambda: self._client.remove_object(self._bucket, key))

    def _key(self, name: str) -> str:
        return self._root + checked_name(name)

    def _put(self, key: str, body: BinaryIO, size_bytes: int, checksum: str) -> None:
        # One part after another: the threads of a parallel upload would not know this operation's retry budget.
        result = self._client.put_object(
            self._bucket, key, body, size_bytes, num_parallel_uploads=1, metadata={"sha256": checksum}
        )
        if not result.etag:
            # Amazon can fail to join the parts after it has sent status 200.
            raise ServerBusy("the upload was not completed")

    def _put_if_absent(self, key: str, data: bytes, writer: str) -> bool:
        # In one part: the condition is sent with every PUT.
        one_part = max(len(data), MIN_PART_SIZE)
        metadata: DictType = {"writer": writer, "sha256": sha256(data).hexdigest()}
        try:
            # minio's put_object takes no conditions; S3 accepts headers that are not signed.
            with self._http.put_headers(If_None_Match="*"):
                self._client.put_object(
                    self._bucket, key, BytesIO(data), len(data), metadata=metadata, part_size=one_part
                )
            return True
        except S3Error as error:
            if error.code != "PreconditionFailed":
                raise
        try:
            # The object may come from an earlier attempt of this writer whose response was lost.
            stored = self._client.stat_object(self._bucket, key).metadata or {}
        except S3Error as error:
            if error.code != "NoSuchKey":
                raise
            return False
        return stored.get("x-amz-meta-writer") == writer

    def _require_bucket(self) -> None:
        if self._bucket_known:
            return
        if not self._with_retries("", lambda: self._client.bucket_exists(self._bucket)):
            raise StorageUnavailable("no such bucket", file=self.uri, expected=f"a bucket at {self._endpoint}")
        self._bucket_known = True

    def _with_retries(self, name: str, once: Callable[[], T], progress: Callable[[], int] = lambda: 0) -> T:
        uri = f"{self.uri}/{name}"
        try:
            return self._http.retry(once, progress)
        except HTTPError as error:
            expected = f"an answer from {self._endpoint} within {self.retry_budget_s:g} s"
            # The last argument is the message, after `HTTPConnectionPool(host=…, port=…): `.
            got = str(error.args[-1] if error.args else error).rpartition("): ")[2]
            raise StorageUnavailable("does not answer", file=uri, expected=expected, got=got) from error
        except S3Error as error:
            if error.code == "NoSuchKey":
                raise StorageMissing("does not exist", file=uri) from None
            expected = f"a bucket at {self._endpoint} that takes this environment's AWS_* keys"
            got = f"{error.code}: {error.message}"
            raise StorageUnavailable("is refused", file=uri, expected=expected, got=got) from error
        except (MinioException, ParseError, ValueError) as error:
            expected = f"an S3 store at {self._endpoint}"
            raise StorageUnavailable("is refused", file=uri, expected=expected, got=str(error)) from error


def _client(uri: str, http: HttpPool) -> tuple[str, Minio]:
    """Endpoint and client by the environment. Raises StorageUnavailable for a bad endpoint or missing keys."""
    s3, keys = S3Settings(), EnvAWSProvider()
    scheme, _, host = s3.endpoint.rpartition("://")
    try:
        if scheme not in ("http", "https"):
            raise ValueError("not an http:// or https:// URL")
        keys.retrieve()
        secure, region = scheme == "https", s3.region_name
        return s3.endpoint, Minio(host, secure=secure, region=region, credentials=keys, http_client=http)
    except ValueError as error:
        expected = "AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and perhaps AWS_ENDPOINT_URL in the environment"
        raise StorageUnavailable(
            "cannot be opened", file=uri, expected=expected, got=f"{s3.endpoint}: {error}"
        ) from error
