"""A store that is a prefix of an S3 bucket."""

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

from cluster.core.settings import S3
from cluster.storage.base import (
    RETRY_FOR_S,
    Entry,
    Storage,
    StorageDamaged,
    StorageMissing,
    StorageUnavailable,
    checked_name,
    checked_prefix,
    is_partial,
    local_errors,
    unfinished,
)
from cluster.storage.http import ServerBusy, Wire

T = TypeVar("T")

_CHUNK_BYTES = 1 << 20
_PAGE = 1000
_SHA256 = "x-amz-meta-sha256"


class BucketStorage(Storage):
    """A prefix of an S3 bucket. What fails in passing is tried again for `retry_for_s`.

    Each object carries its SHA-256 (`x-amz-meta-sha256`), by which what is read is checked; what others have written
    may have none.
    """

    def __init__(self, uri: str, retry_for_s: float = RETRY_FOR_S) -> None:
        uri = uri.rstrip("/")
        super().__init__(uri, retry_for_s)
        self._bucket, _, prefix = uri.removeprefix("s3://").partition("/")
        self._root = checked_prefix(prefix) + "/" if prefix else ""
        self._wire = Wire(retry_for_s)
        self._endpoint, self._client = _client(uri, self._wire)
        self._bucket_seen = False

    def stat(self, name: str) -> Entry | None:
        """See Storage."""
        key = self._key(name)
        try:
            found = self._try(name, lambda: self._client.stat_object(self._bucket, key))
        except StorageMissing:
            self._find_bucket()
            return None
        return Entry(name, found.size or 0, found.etag or "")

    def list(self, prefix: str = "") -> Iterator[Entry]:
        """See Storage. Holds one page of names at a time."""
        begin, last = self._root + checked_prefix(prefix), ""

        def page() -> list[Object]:
            found = self._client.list_objects(self._bucket, begin, recursive=True, start_after=last)
            return [*islice(found, _PAGE)]

        while items := self._try(prefix, page):
            for item in items:
                last = str(item.object_name)
                # Other tools mark an empty folder so.
                if not last.endswith("/") and not is_partial(last):
                    yield Entry(last.removeprefix(self._root), item.size or 0, item.etag or "")
            if len(items) < _PAGE:
                return

    def read(self, name: str) -> bytes:
        """See Storage."""
        key = self._key(name)

        def once() -> bytes:
            with closing(self._client.get_object(self._bucket, key)) as answer:
                data = bytes(answer.read())
                self._compare(name, answer.headers.get(_SHA256), sha256(data).hexdigest())
                return data

        return self._try(name, once)

    def download(self, name: str, path: Path) -> None:
        """See Storage. Goes on where it was broken off, if the object is still the same one."""
        key = self._key(name)
        with local_errors(path), unfinished(path) as partial:
            with partial.open("x+b") as file:
                same: dict[str, str] = {}
                expected = self._try(name, lambda: self._fetch_rest(key, file, same), file.tell)
                file.seek(0)
                self._compare(name, expected, file_digest(file, "sha256").hexdigest())
            os.replace(partial, path)

    def _fetch_rest(self, key: str, file: BinaryIO, same: dict[str, str]) -> str | None:
        """Fetch what `file` lacks; the object's checksum if it has one."""
        try:
            answer = self._client.get_object(self._bucket, key, offset=file.tell(), request_headers={**same})
        except S3Error as error:
            if error.code not in ("PreconditionFailed", "InvalidRange"):
                raise
            file.truncate(file.seek(0))
            same.clear()
            raise ServerBusy("another object of that name") from error
        with closing(answer):
            if answer.status != 206:
                file.truncate(file.seek(0))
            same["If-Match"] = answer.headers.get("ETag", "*")
            for chunk in answer.stream(_CHUNK_BYTES):
                file.write(chunk)
                self._wire.heard()
            return answer.headers.get(_SHA256)

    def _compare(self, name: str, expected: str | None, got: str) -> None:
        if expected is not None and got != expected:
            raise StorageDamaged("is not what was written", file=f"{self.uri}/{name}", expected=expected, got=got)

    def presigned(self, name: str, seconds: int) -> str | None:
        """See Storage. Whoever fetches it must reach the endpoint by the name that it has here."""
        address = self._client.presigned_get_object(self._bucket, self._key(name), timedelta(seconds=seconds))
        return str(address)

    def write(self, name: str, data: bytes, *, if_absent: bool = False) -> bool:
        """See Storage."""
        key = self._key(name)
        if if_absent:
            writer = uuid4().hex
            return self._try(name, lambda: self._put_if_absent(key, data, writer))
        checksum = sha256(data).hexdigest()
        self._try(name, lambda: self._put(key, BytesIO(data), len(data), checksum))
        return True

    def upload(self, path: Path, name: str) -> None:
        """See Storage. Holds one part of the file at a time."""
        key = self._key(name)
        with local_errors(path), path.open("rb") as file:

            def once() -> None:
                file.seek(0)
                checksum = file_digest(file, "sha256").hexdigest()
                file.seek(0)
                self._wire.heard()
                self._put(key, file, os.fstat(file.fileno()).st_size, checksum)

            self._try(name, once, file.tell)

    def delete(self, name: str) -> None:
        """See Storage."""
        key = self._key(name)
        with suppress(StorageMissing):
            self._try(name, lambda: self._client.remove_object(self._bucket, key))

    def _key(self, name: str) -> str:
        return self._root + checked_name(name)

    def _put(self, key: str, body: BinaryIO, size_bytes: int, checksum: str) -> None:
        # One part after another: in threads of its own, minio would not keep to this operation's patience.
        done = self._client.put_object(
            self._bucket, key, body, size_bytes, num_parallel_uploads=1, metadata={"sha256": checksum}
        )
        if not done.etag:
            # Amazon can fail to join the parts after it has said 200.
            raise ServerBusy("no end to the upload")

    def _put_if_absent(self, key: str, data: bytes, writer: str) -> bool:
        # In one part, as the condition is on every PUT.
        one_part = max(len(data), MIN_PART_SIZE)
        told: DictType = {"writer": writer, "sha256": sha256(data).hexdigest()}
        try:
            # minio's put takes no conditions; a signature allows headers beside those it signs.
            with self._wire.put_headers(If_None_Match="*"):
                self._client.put_object(self._bucket, key, BytesIO(data), len(data), metadata=told, part_size=one_part)
            return True
        except S3Error as error:
            if error.code != "PreconditionFailed":
                raise
        try:
            # It may be this one's, put by an earlier try whose answer was lost.
            found = self._client.stat_object(self._bucket, key).metadata or {}
        except S3Error as error:
            if error.code != "NoSuchKey":
                raise
            return False
        return found.get("x-amz-meta-writer") == writer

    def _find_bucket(self) -> None:
        if self._bucket_seen:
            return
        if not self._try("", lambda: self._client.bucket_exists(self._bucket)):
            raise StorageUnavailable("no such bucket", file=self.uri, expected=f"a bucket at {self._endpoint}")
        self._bucket_seen = True

    def _try(self, name: str, once: Callable[[], T], progress: Callable[[], int] = lambda: 0) -> T:
        uri = f"{self.uri}/{name}"
        try:
            return self._wire.persist(once, progress)
        except HTTPError as error:
            wanted = f"an answer from {self._endpoint} within {self.retry_for_s:g} s"
            # Its last argument is the message, behind `HTTPConnectionPool(host=…, port=…): `.
            got = str(error.args[-1] if error.args else error).rpartition("): ")[2]
            raise StorageUnavailable("does not answer", file=uri, expected=wanted, got=got) from error
        except S3Error as error:
            if error.code == "NoSuchKey":
                raise StorageMissing("is not there", file=uri) from None
            wanted = f"a bucket at {self._endpoint} that takes this environment's AWS_* keys"
            got = f"{error.code}: {error.message}"
            raise StorageUnavailable("is refused", file=uri, expected=wanted, got=got) from error
        except (MinioException, ParseError, ValueError) as error:
            wanted = f"an S3 store at {self._endpoint}"
            raise StorageUnavailable("is refused", file=uri, expected=wanted, got=str(error)) from error


def _client(uri: str, wire: Wire) -> tuple[str, Minio]:
    s3, keys = S3(), EnvAWSProvider()
    scheme, _, host = s3.endpoint.rpartition("://")
    try:
        if scheme not in ("http", "https"):
            raise ValueError("no http:// or https://")
        keys.retrieve()
        secure, region = scheme == "https", s3.region_name
        return s3.endpoint, Minio(host, secure=secure, region=region, credentials=keys, http_client=wire)
    except ValueError as error:
        wanted = "AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and perhaps AWS_ENDPOINT_URL in the environment"
        raise StorageUnavailable(
            "cannot be asked for", file=uri, expected=wanted, got=f"{s3.endpoint}: {error}"
        ) from error
