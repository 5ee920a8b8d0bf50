"""Folders (`file://`) and buckets (`s3://`) behind one small interface: what is written appears whole or not at all.

S3 is spoken by the minio client. Endpoint and keys come from the environment (cluster.core.settings.S3).
"""

from __future__ import annotations

import os
import re
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from urllib.parse import unquote
from uuid import uuid4

from dancedist.errors import DancedistError

# A store that does not answer for this long is taken to be gone.
RETRY_FOR_S = 40.0
# Backslashes, control characters and what no UTF-8 can hold.
_NOT_IN_NAMES = re.compile(r"[\\\x00-\x1f\ud800-\udfff]")


class StorageUnavailable(DancedistError):
    """A store that does not answer, or that refuses."""

    slug = "storage-unavailable"


class StorageMissing(DancedistError):
    """No file or object of that name."""

    slug = "storage-missing"


class StorageDamaged(DancedistError):
    """A file that is not what was written under its name."""

    slug = "storage-damaged"


class NameInvalid(DancedistError):
    """A name that would lead out of the store, or that not every store can keep."""

    slug = "name-invalid"


@dataclass(frozen=True)
class Entry:
    """What a store knows of a file without reading it. `etag` changes when the content does."""

    name: str
    size_bytes: int
    etag: str


class Storage(ABC):
    """A folder or a bucket's prefix. Names are relative, with `/` between their parts.

    Pickles as its URI. Every method raises StorageUnavailable, and NameInvalid where it takes a name.
    """

    def __init__(self, uri: str, retry_for_s: float = RETRY_FOR_S) -> None:
        self.uri, self.retry_for_s = uri, retry_for_s

    @abstractmethod
    def stat(self, name: str) -> Entry | None:
        """What is known of a file; None where there is none."""

    @abstractmethod
    def list(self, prefix: str = "") -> Iterator[Entry]:
        """Files whose name begins so, at any depth, in the order of their names.

        Of S3 servers only SeaweedFS departs from it: it lists a folder before the files that are named like its name
        and more (`a/x` before `a-b` and `a.txt`).
        """

    @abstractmethod
    def read(self, name: str) -> bytes:
        """All of a file. Raises StorageMissing, StorageDamaged."""

    @abstractmethod
    def download(self, name: str, path: Path) -> None:
        """Stream a file to `path`, whole or not at all. Raises StorageMissing, StorageDamaged."""

    def presigned(self, name: str, seconds: int) -> str | None:
        """An address at which anybody can fetch a file for so long; None where the store has no such thing."""
        checked_name(name)
        return None

    @abstractmethod
    def write(self, name: str, data: bytes, *, if_absent: bool = False) -> bool:
        """Write a small file. With `if_absent`, of several writers the first wins; returns whether this one did."""

    @abstractmethod
    def upload(self, path: Path, name: str) -> None:
        """Stream a file in."""

    @abstractmethod
    def delete(self, name: str) -> None:
        """Remove a file; nothing happens where there is none."""

    def delete_folder(self, name: str) -> None:
        """Remove all files under `name`/; may be broken off and repeated."""
        for entry in [*self.list(f"{checked_name(name)}/")]:
            self.delete(entry.name)

    def __reduce__(self) -> tuple[object, ...]:
        return partial(open_storage, retry_for_s=self.retry_for_s), (self.uri,)


def open_storage(uri: str, retry_for_s: float = RETRY_FOR_S) -> Storage:
    """Store of a `file://` or `s3://bucket/prefix` URI; a plain path is a folder. Asks nothing of the store yet."""
    if uri.startswith("s3://"):
        # minio is a fifth of a second of imports, in each of many processes.
        from cluster.storage.s3 import BucketStorage

        return BucketStorage(uri, retry_for_s)
    from cluster.storage.local import FolderStorage

    return FolderStorage(str(_local_path(uri)), retry_for_s)


def split_uri(uri: str) -> tuple[str, str]:
    """Store and name of one file's URI: `open_storage(store)` has it under `name`."""
    if uri.startswith("s3://"):
        store, _, name = uri.rpartition("/")
        if store == "s3:/":
            raise NameInvalid("names no object", file=uri, expected="s3://bucket/name")
    else:
        path = _local_path(uri)
        store, name = str(path.parent), path.name
    return store, checked_name(name)


def _local_path(uri: str) -> Path:
    kind = re.match(r"([a-z][a-z0-9+.-]*):", uri, re.IGNORECASE)
    if not kind:
        # Absolute: another process that opens it may stand in another folder.
        return Path(uri).absolute()
    path = unquote(uri.removeprefix("file://").removeprefix("localhost"))
    if not uri.startswith("file://") or not path.startswith("/"):
        raise StorageUnavailable("no such kind of storage", file=uri, expected="s3://…, file:///… or a path", got=uri)
    return Path(path)


def checked_name(name: str) -> str:
    """The name itself. Raises NameInvalid."""
    parts = name.split("/")
    if not all(parts) or {".", ".."} & {*parts} or _NOT_IN_NAMES.search(name):
        raise NameInvalid(
            "is no name in a store", file=name, expected="relative, no '..', backslash or control character"
        )
    if is_partial(name):
        raise NameInvalid("is the name of an unfinished file", file=name)
    return name


def checked_prefix(prefix: str) -> str:
    """The same for the beginning of a name, which may be empty or end in `/`."""
    if prefix:
        checked_name(prefix.removesuffix("/"))
    return prefix


def is_partial(name: str) -> bool:
    """Whether this is a file that somebody is still writing."""
    last = name.rpartition("/")[2]
    return last.startswith(".") and ".partial." in last


@contextmanager
def unfinished(path: Path) -> Iterator[Path]:
    """A new name beside `path` to write under; removed at the end if it is still there.

    Unlike dancedist.files.published it serves several threads, and machines that share a folder.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    name = path.with_name(f".{uuid4().hex}.partial.{path.name}")
    try:
        yield name
    finally:
        name.unlink(missing_ok=True)


@contextmanager
def local_errors(path: str | os.PathLike[str]) -> Iterator[None]:
    """Turn what the operating system says of `path` into a StorageUnavailable."""
    try:
        yield
    except OSError as error:
        raise StorageUnavailable("cannot be used", file=path, got=error.strerror or str(error)) from error
