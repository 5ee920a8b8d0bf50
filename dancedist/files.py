"""Atomic writes of files and folders, file locks, checksums."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Write a file atomically: `with atomic_write(path) as partial: write(partial)`.

    `partial` replaces `path` when the block ends without an exception.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # Same suffix, because many writers choose the format by it.
    partial = path.with_name(f".{os.getpid()}.partial.{path.name}")
    try:
        yield partial
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def atomic_write_folder(path: Path) -> Iterator[Path]:
    """Write a folder atomically, like `atomic_write`; an existing folder is replaced at the end."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial, old = (path.with_name(f".{os.getpid()}.{word}.{path.name}") for word in ("partial", "old"))
    for leftover in (partial, old):
        shutil.rmtree(leftover, ignore_errors=True)
    partial.mkdir()
    try:
        yield partial
        if path.exists():
            os.replace(path, old)
        os.replace(partial, path)
    finally:
        for leftover in (partial, old):
            shutil.rmtree(leftover, ignore_errors=True)


@contextmanager
def file_lock(lock: Path) -> Iterator[None]:
    """Lock between processes of a machine; it is released when the block ends or the process dies.

    The lock file is not deleted: if it were deleted while another process waits for it, two could hold the lock.
    """
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def remove_leftovers(path: Path) -> None:
    """Remove leftovers of killed `atomic_write_folder(path)` calls; no process may be writing it now."""
    for leftover in [*path.parent.glob(f".*.partial.{path.name}"), *path.parent.glob(f".*.old.{path.name}")]:
        shutil.rmtree(leftover, ignore_errors=True)


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's content, 64 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
