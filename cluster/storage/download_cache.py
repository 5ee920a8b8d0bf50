"""Local copies of videos: a file on disk is used in place; one in S3 is downloaded once for all workers of a node."""

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
from cluster.core.settings import SharedSettings
from cluster.storage.base import Entry, StorageMissing
from cluster.storage.open import open_storage, split_uri

# A worker may still read a video that it used this recently.
IN_USE_S = 900.0
# For this long, an interrupted training may still resume from its folder on a node.
KEEP_UNPINNED_S = 24 * 3600.0
_PIN_FILE = ".held"


def fetch_cached(uri: str, size_bytes: int, etag: str, cache_gb: float) -> Path:
    """Path of a local file with the content that the video had when it was listed.

    Raises VideoChanged if the video has changed since, StorageMissing, StorageUnavailable.
    """
    store_uri, name = split_uri(uri)
    store = open_storage(store_uri)
    if not uri.startswith("s3://"):
        _check(uri, etag, store.stat(name))
        return Path(store_uri) / name
    path = cache_folder("videos") / (hashlib.sha256(f"{uri} {etag}".encode()).hexdigest() + Path(name).suffix)
    with _locked(path.with_suffix(".lock")):
        if not path.exists():
            _evict(path.parent, int(cache_gb * 1e9) - size_bytes)
            store.download(name, path)
            try:
                _check(uri, etag, store.stat(name))
            except VideoChanged:
                path.unlink()
                raise
        os.utime(path)
    return path


def fetch_current(uri: str, cache_gb: float) -> Path:
    """Path of a local file with the video's current content. Raises the errors of `fetch_cached`."""
    store, name = split_uri(uri)
    entry = open_storage(store).stat(name)
    if entry is None:
        raise StorageMissing("does not exist", file=uri)
    return fetch_cached(uri, entry.size_bytes, entry.etag, cache_gb)


def _check(uri: str, etag: str, now: Entry | None) -> None:
    if now is None:
        raise StorageMissing("no longer exists", file=uri)
    if now.etag != etag:
        raise VideoChanged("changed since it was listed", file=uri, expected=f"etag {etag}", got=now.etag)


def cache_folder(name: str) -> Path:
    """A folder in $DANCEDIST_CACHE; by default in a temporary folder of this user."""
    folder = (SharedSettings().cache or Path(tempfile.gettempdir()) / f"dancedist-{getpass.getuser()}") / name
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    return folder


@contextmanager
def _locked(lock: Path) -> Iterator[None]:
    with lock.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _evict(folder: Path, budget_bytes: int) -> None:
    """Remove the least recently used files until the rest fit; files used in the last IN_USE_S seconds stay."""
    files = sorted((f.stat().st_mtime, f.stat().st_size, f) for f in folder.iterdir() if f.suffix != ".lock")
    total_bytes = sum(size for _, size, _ in files)
    for used, size, file in files:
        if total_bytes <= budget_bytes or time.time() - used < IN_USE_S:
            return
        file.unlink(missing_ok=True)
        total_bytes -= size


@contextmanager
def pinned(folder: Path) -> Iterator[None]:
    """Protect the folder from `sweep` while the block runs in any process, and for KEEP_UNPINNED_S after it."""
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / _PIN_FILE).open("a") as file:
            fcntl.flock(file, fcntl.LOCK_SH)
            if not (folder / _PIN_FILE).exists():
                # `sweep` removed the folder between the two lines above.
                continue
            os.utime(file.fileno())
            yield
            return


def sweep(parent: Path) -> None:
    """Remove the folders in `parent` that nobody has pinned in the last KEEP_UNPINNED_S."""
    for pin_file in parent.glob(f"*/{_PIN_FILE}"):
        with suppress(FileNotFoundError, BlockingIOError), pin_file.open("r+") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if time.time() - os.fstat(file.fileno()).st_mtime > KEEP_UNPINNED_S:
                shutil.rmtree(pin_file.parent, ignore_errors=True)
