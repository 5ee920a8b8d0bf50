"""A store that is a folder."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from cluster.storage.base import (
    RETRY_FOR_S,
    Entry,
    Storage,
    StorageMissing,
    checked_name,
    checked_prefix,
    is_partial,
    local_errors,
    unfinished,
)


class FolderStorage(Storage):
    """A folder of this machine, or one that all machines share."""

    def __init__(self, uri: str, retry_for_s: float = RETRY_FOR_S) -> None:
        super().__init__(uri, retry_for_s)
        self.root = Path(uri)

    def stat(self, name: str) -> Entry | None:
        """See Storage."""
        path = self._path(name)
        with local_errors(path):
            return _entry(name, path)

    def list(self, prefix: str = "") -> Iterator[Entry]:
        """See Storage. Holds the names of one folder per level at a time."""
        folder = checked_prefix(prefix).rpartition("/")[0]
        with local_errors(self.root / folder):
            yield from _walk(self.root / folder, f"{folder}/" if folder else "", prefix)

    def read(self, name: str) -> bytes:
        """See Storage."""
        path = self._path(name)
        with local_errors(path):
            try:
                return path.read_bytes()
            except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
                raise StorageMissing("is not there", file=path) from None

    def download(self, name: str, path: Path) -> None:
        """See Storage."""
        _copy(self._existing(name), path)

    def write(self, name: str, data: bytes, *, if_absent: bool = False) -> bool:
        """See Storage."""
        path = self._path(name)
        with local_errors(path), unfinished(path) as partial, partial.open("xb") as file:
            file.write(data)
            file.flush()
            if not if_absent:
                os.replace(partial, path)
                return True
            # Nobody would write it again if a power cut took its content.
            os.fsync(file.fileno())
            return _link(partial, path)

    def upload(self, path: Path, name: str) -> None:
        """See Storage."""
        _copy(path, self._path(name))

    def delete(self, name: str) -> None:
        """See Storage."""
        path = self._path(name)
        with local_errors(path):
            if _entry(name, path):
                path.unlink(missing_ok=True)

    def delete_folder(self, name: str) -> None:
        """See Storage. Unfinished files and the folder itself go too."""
        path = self._path(name)
        with local_errors(path), suppress(FileNotFoundError):
            shutil.rmtree(path)

    def _path(self, name: str) -> Path:
        return self.root / checked_name(name)

    def _existing(self, name: str) -> Path:
        if self.stat(name) is None:
            raise StorageMissing("is not there", file=self._path(name))
        return self._path(name)


def _entry(name: str, path: Path) -> Entry | None:
    try:
        if not path.is_file():
            return None
        found = path.stat()
    except FileNotFoundError:
        return None
    return Entry(name, found.st_size, f"{found.st_mtime_ns:x}-{found.st_ino:x}-{found.st_size:x}")


def _walk(folder: Path, above: str, prefix: str) -> Iterator[Entry]:
    try:
        found = {above + f.name + "/" * f.is_dir(follow_symlinks=False): Path(f) for f in os.scandir(folder)}
    except (FileNotFoundError, NotADirectoryError):
        return
    # With their slash, folders stand among the files where their content's full names do.
    for name in sorted(found):
        if name.endswith("/"):
            if name.startswith(prefix) or prefix.startswith(name):
                yield from _walk(found[name], name, prefix)
        elif name.startswith(prefix) and not is_partial(name) and (entry := _entry(name, found[name])):
            yield entry


def _copy(source: Path, target: Path) -> None:
    with local_errors(source), source.open("rb") as content, local_errors(target), unfinished(target) as partial:
        with partial.open("xb") as file:
            shutil.copyfileobj(content, file, 1 << 20)
        os.replace(partial, target)


def _link(partial: Path, path: Path) -> bool:
    try:
        # Fails where the name is taken, unlike a rename.
        os.link(partial, path)
    except FileExistsError:
        if path.is_dir():
            raise
        # NFS may ask twice and tell of the second time; two links mean that the first was ours.
        return partial.stat().st_nlink == 2
    return True
