"""Storage in a folder."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from cluster.storage.base import (
    RETRY_BUDGET_S,
    Entry,
    Storage,
    StorageMissing,
    checked_name,
    checked_prefix,
    is_partial,
    os_errors_as_unavailable,
    partial_path,
)


class LocalStorage(Storage):
    """A folder of this machine, or one shared by all machines."""

    def __init__(self, uri: str, retry_budget_s: float = RETRY_BUDGET_S) -> None:
        super().__init__(uri, retry_budget_s)
        self.root = Path(uri)

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.uri, self.retry_budget_s)

    def stat(self, name: str) -> Entry | None:
        """See Storage."""
        path = self._path(name)
        with os_errors_as_unavailable(path):
            return _entry(name, path)

    def list(self, prefix: str = "") -> Iterator[Entry]:
        """See Storage. Holds the names of one folder per level at a time."""
        folder = checked_prefix(prefix).rpartition("/")[0]
        with os_errors_as_unavailable(self.root / folder):
            yield from _walk(self.root / folder, f"{folder}/" if folder else "", prefix)

    def read(self, name: str) -> bytes:
        """See Storage."""
        path = self._path(name)
        with os_errors_as_unavailable(path):
            try:
                return path.read_bytes()
            except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
                raise StorageMissing("does not exist", file=path) from None

    def download(self, name: str, path: Path) -> None:
        """See Storage."""
        _copy(self._existing(name), path)

    def write(self, name: str, data: bytes, *, if_absent: bool = False) -> bool:
        """See Storage."""
        path = self._path(name)
        with os_errors_as_unavailable(path), partial_path(path) as partial, partial.open("xb") as file:
            file.write(data)
            file.flush()
            if not if_absent:
                os.replace(partial, path)
                return True
            # With `if_absent` the file is never written again: its content must survive a power cut.
            os.fsync(file.fileno())
            return _link(partial, path)

    def upload(self, path: Path, name: str) -> None:
        """See Storage."""
        _copy(path, self._path(name))

    def delete(self, name: str) -> None:
        """See Storage."""
        path = self._path(name)
        with os_errors_as_unavailable(path):
            if _entry(name, path):
                path.unlink(missing_ok=True)

    def delete_folder(self, name: str) -> None:
        """See Storage. Removes partial files and the folder itself, too."""
        path = self._path(name)
        with os_errors_as_unavailable(path), suppress(FileNotFoundError):
            shutil.rmtree(path)

    def _path(self, name: str) -> Path:
        return self.root / checked_name(name)

    def _existing(self, name: str) -> Path:
        if self.stat(name) is None:
            raise StorageMissing("does not exist", file=self._path(name))
        return self._path(name)


def _entry(name: str, path: Path) -> Entry | None:
    try:
        if not path.is_file():
            return None
        stats = path.stat()
    except FileNotFoundError:
        return None
    return Entry(name, stats.st_size, f"{stats.st_mtime_ns:x}-{stats.st_ino:x}-{stats.st_size:x}")


def _walk(folder: Path, parent: str, prefix: str) -> Iterator[Entry]:
    try:
        paths = {parent + f.name + "/" * f.is_dir(follow_symlinks=False): Path(f) for f in os.scandir(folder)}
    except (FileNotFoundError, NotADirectoryError):
        return
    # Folder names end in `/` here, so they sort where the full names of their files do.
    for name in sorted(paths):
        if name.endswith("/"):
            if name.startswith(prefix) or prefix.startswith(name):
                yield from _walk(paths[name], name, prefix)
        elif name.startswith(prefix) and not is_partial(name) and (entry := _entry(name, paths[name])):
            yield entry


def _copy(source: Path, target: Path) -> None:
    with (
        os_errors_as_unavailable(source),
        source.open("rb") as content,
        os_errors_as_unavailable(target),
        partial_path(target) as partial,
    ):
        with partial.open("xb") as file:
            shutil.copyfileobj(content, file, 1 << 20)
        os.replace(partial, target)


def _link(partial: Path, path: Path) -> bool:
    try:
        # Unlike a rename, a link fails if the name exists.
        os.link(partial, path)
    except FileExistsError:
        if path.is_dir():
            raise
        # NFS may send the request twice and report the second result; two links mean that the first one succeeded.
        return partial.stat().st_nlink == 2
    return True
