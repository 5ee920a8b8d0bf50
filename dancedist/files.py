"""Files and folders that appear whole or not at all."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def published(path: Path) -> Iterator[Path]:
    """`with published(out) as partial: write(partial)`: the file takes `out`'s place when the block ends well."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # The suffix stays: many writers tell the format by it.
    partial = path.with_name(f".{os.getpid()}.partial.{path.name}")
    try:
        yield partial
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def published_folder(path: Path) -> Iterator[Path]:
    """The same for a folder; one that stands there gives way at the very end."""
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
def only_one(lock: Path) -> Iterator[None]:
    """Others of this machine that name the same file wait here, until the block ends or its process dies.

    The file stays: one that is removed while another waits for it would let two in.
    """
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def remove_leftovers(path: Path) -> None:
    """Remove what killed processes left of `published_folder(path)`; none may be at it now."""
    for leftover in [*path.parent.glob(f".*.partial.{path.name}"), *path.parent.glob(f".*.old.{path.name}")]:
        shutil.rmtree(leftover, ignore_errors=True)
