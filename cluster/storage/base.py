"""One small interface to folders (`file://`) and buckets (`s3://`). Writes are atomic.

S3 goes through the minio client. Endpoint and keys come from the environment (cluster.core.settings.S3Settings).
"""

from __future__ import annotations

import os
import re
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from dancedist.errors import DancedistError

# A store that does not answer for this long counts as unavailable.
RETRY_BUDGET_S = 40.0
# Backslashes, control characters and surrogates, which UTF-8 cannot encode.
_NOT_IN_NAMES = re.compile(r"[\\\x00-\x1f\ud800-\udfff]")


class StorageUnavailable(DancedistError):
    """A store that does not answer or refuses the request."""

    slug = "storage-unavailable"


class OutputUnavailable(StorageUnavailable):
    """The storage for the results is unavailable, so the job cannot continue."""

    slug = "output-unavailable"


class StorageMissing(DancedistError):
    """There is no file or object of that name."""

    slug = "storage-missing"


class StorageDamaged(DancedistError):
    """A file that does not match the checksum it was written with."""

    slug = "storage-damaged"


class NameInvalid(DancedistError):
    """A name that points outside the store, or that some stores cannot hold."""

    slug = "name-invalid"


@dataclass(frozen=True)
class Entry:
    """Metadata of a stored file. `etag` changes when the content changes."""

    name: str
    size_bytes: int
    etag: str


class Storage(ABC):
    """A folder or a prefix of a bucket. Names are relative paths, separated by `/`.

    Subclasses pickle as their URI. Every method raises StorageUnavailable; those that take a name raise NameInvalid.
    """

    def __init__(self, uri: str, retry_budget_s: float = RETRY_BUDGET_S) -> None:
        self.uri, self.retry_budget_s = uri, retry_budget_s

    @abstractmethod
    def stat(self, name: str) -> Entry | None:
        """Metadata of a file; None if it does not exist."""

    @abstractmethod
    def list(self, prefix: str = "") -> Iterator[Entry]:
        """Files whose names begin with `prefix`, at any depth, sorted by name.

        SeaweedFS sorts differently: a folder comes before files whose names extend the folder's name (`a/x` before
        `a-b` and `a.txt`).
        """

    @abstractmethod
    def read(self, name: str) -> bytes:
        """Content of a file. Raises StorageMissing, StorageDamaged."""

    @abstractmethod
    def download(self, name: str, path: Path) -> None:
        """Stream a file to `path`, atomically. Raises StorageMissing, StorageDamaged."""

    def presigned(self, name: str, seconds: int) -> str | None:
        """URL at which anybody can fetch the file for this many seconds; None if the store has no such URLs."""
        checked_name(name)
        return None

    @abstractmethod
    def write(self, name: str, data: bytes, *, if_absent: bool = False) -> bool:
        """Write a small file; returns whether it was written.

        With `if_absent`, an existing file stays, and only the first of several writers succeeds.
        """

    @abstractmethod
    def upload(self, path: Path, name: str) -> None:
        """Stream a local file into the store."""

    @abstractmethod
    def delete(self, name: str) -> None:
        """Remove a file if it exists."""

    def delete_folder(self, name: str) -> None:
        """Remove all files under `name`/. If interrupted, call it again."""
        for entry in [*self.list(f"{checked_name(name)}/")]:
            self.delete(entry.name)


def checked_name(name: str) -> str:
    """Return the name. Raises NameInvalid."""
    parts = name.split("/")
    if not all(parts) or {".", ".."} & {*parts} or _NOT_IN_NAMES.search(name):
        raise NameInvalid(
            "is not a valid name in a store", file=name, expected="relative, no '..', backslash or control character"
        )
    if is_partial(name):
        raise NameInvalid("is reserved for files that are being written", file=name)
    return name


def checked_prefix(prefix: str) -> str:
    """Return the prefix of a name, which may be empty or end in `/`. Raises NameInvalid."""
    if prefix:
        checked_name(prefix.removesuffix("/"))
    return prefix


def is_partial(name: str) -> bool:
    """Whether the name is that of a file that is still being written."""
    last = name.rpartition("/")[2]
    return last.startswith(".") and ".partial." in last


@contextmanager
def partial_path(path: Path) -> Iterator[Path]:
    """A new temporary path beside `path`; the file is removed at the end if it still exists.

    Unlike dancedist.files.atomic_write it is safe for several threads, and for machines that share a folder.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    name = path.with_name(f".{uuid4().hex}.partial.{path.name}")
    try:
        yield name
    finally:
        name.unlink(missing_ok=True)


@contextmanager
def os_errors_as_unavailable(path: str | os.PathLike[str]) -> Iterator[None]:
    """Convert an OSError about `path` to StorageUnavailable."""
    try:
        yield
    except OSError as error:
        raise StorageUnavailable("cannot be used", file=path, got=error.strerror or str(error)) from error
