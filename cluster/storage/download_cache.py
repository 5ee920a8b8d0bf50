"""Videos where a decoder can seek in them: as they are on a disk, or fetched from S3 once for all workers of a node."""

from __future__ import annotations

import fcntl
import getpass
import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from cluster.core.error_records import VideoChanged
from cluster.core.settings import Shared
from cluster.storage.base import Entry, StorageMissing, open_storage, split_uri

# A worker may still come back to a video that it used a moment ago.
IN_USE_S = 900.0
# What a training that never ended has left on a node may still be taken up for so long.
LEFT_S = 24 * 3600.0
_HELD = ".held"


def fetched(uri: str, size_bytes: int, etag: str, cache_gb: float) -> Path:
    """A local file with the video's content, as it was listed.

    Raises VideoChanged where it is another by now, StorageMissing, StorageUnavailable.
    """
    store_uri, name = split_uri(uri)
    store = open_storage(store_uri)
    if not uri.startswith("s3://"):
        _check(uri, etag, store.stat(name))
        return Path(store_uri) / name
    path = cache_folder("videos") / (hashlib.sha256(f"{uri} {etag}".encode()).hexdigest() + Path(name).suffix)
    with _only_one(path.with_suffix(".lock")):
        if not path.exists():
            _make_room(path.parent, int(cache_gb * 1e9) - size_bytes)
            store.download(name, path)
            try:
                _check(uri, etag, store.stat(name))
            except VideoChanged:
                path.unlink()
                raise
        os.utime(path)
    return path


def fetched_now(uri: str, cache_gb: float) -> Path:
    """A local file with the video's content as it is at this moment. Raises as `fetched` does."""
    store, name = split_uri(uri)
    found = open_storage(store).stat(name)
    if found is None:
        raise StorageMissing("is not there", file=uri)
    return fetched(uri, found.size_bytes, found.etag, cache_gb)


def _check(uri: str, etag: str, now: Entry | None) -> None:
    if now is None:
        raise StorageMissing("is not there any more", file=uri)
    if now.etag != etag:
        raise VideoChanged("changed since it was listed", file=uri, expected=f"etag {etag}", got=now.etag)


def cache_folder(name: str) -> Path:
    """A folder in $DANCEDIST_CACHE, or in one of this user among the temporary files."""
    folder = (Shared().cache or Path(tempfile.gettempdir()) / f"dancedist-{getpass.getuser()}") / name
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    return folder


@contextmanager
def _only_one(lock: Path) -> Iterator[None]:
    with lock.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _make_room(folder: Path, budget_bytes: int) -> None:
    """Remove what was not used for the longest, but nothing that was used just now."""
    files = sorted((f.stat().st_mtime, f.stat().st_size, f) for f in folder.iterdir() if f.suffix != ".lock")
    held = sum(size for _, size, _ in files)
    for used, size, file in files:
        if held <= budget_bytes or time.time() - used < IN_USE_S:
            return
        file.unlink(missing_ok=True)
        held -= size


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """While the block runs, in any of several processes, and for a day after it, nothing sweeps the folder away."""
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / _HELD).open("a") as file:
            fcntl.flock(file, fcntl.LOCK_SH)
            if not (folder / _HELD).exists():
                # Swept away between the two lines above.
                continue
            os.utime(file.fileno())
            yield
            return


def sweep(parent: Path) -> None:
    """Remove the folders in it that nobody holds or has held for a day."""
    for mark in parent.glob(f"*/{_HELD}"):
        with suppress(FileNotFoundError, BlockingIOError), mark.open("r+") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if time.time() - os.fstat(file.fileno()).st_mtime > LEFT_S:
                shutil.rmtree(mark.parent, ignore_errors=True)
