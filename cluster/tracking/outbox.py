"""Outbox: an ordered queue of records on disk. Records are written atomically and removed once they are sent."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import threading
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cluster.storage.base import os_errors_as_unavailable
from dancedist.files import atomic_write


@dataclass(frozen=True)
class OutboxRecord:
    """One record to send: JSON content, and a folder of files, which exists only if the record has any."""

    number: int
    content: dict[str, Any]
    files: Path


class Outbox:
    """A queue that outlives its process. Any thread may append; only one thread may read and remove.

    A record's files are hard-linked, or copied from another disk: afterwards they may be replaced or removed, but not
    modified in place. Raises BlockingIOError if another process has it open, and StorageUnavailable.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self._queue = folder, folder / "queue"
        with os_errors_as_unavailable(folder):
            self._queue.mkdir(parents=True, exist_ok=True)
            self._lock_file = (folder / "lock").open("w")
        fcntl.flock(self._lock_file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        self._changed = threading.Condition()
        self._numbers = deque(sorted(int(file.stem) for file in self._queue.glob("[0-9]*.json")))
        self._last = self._numbers[-1] if self._numbers else 0
        self._sweep()

    def append(self, content: Mapping[str, Any], files: Mapping[str, Path | str] | None = None) -> int:
        """Append a record; `files`: name -> path, or text of the file. Returns the record's number."""
        with self._changed, os_errors_as_unavailable(self.folder):
            number = self._last + 1
            if files:
                _link_files(files, self._files(number))
            # The record exists only once this file does; leftovers of a kill are swept.
            with atomic_write(self._json(number)) as partial:
                partial.write_text(json.dumps(content))
            self._last = number
            self._numbers.append(number)
            self._changed.notify_all()
            return number

    def head(self, limit: int = 1) -> list[OutboxRecord]:
        """Return the oldest records; an unreadable one (after a power cut) has empty content."""
        with self._changed:
            numbers = [self._numbers[i] for i in range(min(limit, len(self._numbers)))]
        return [OutboxRecord(n, _read(self._json(n)), self._files(n)) for n in numbers]

    def remove(self, number: int) -> None:
        """Remove the oldest record, which must have this number."""
        self._json(number).unlink()
        shutil.rmtree(self._files(number), ignore_errors=True)
        self._forget(number)

    def set_aside(self, number: int) -> Path:
        """Move the oldest record, which cannot be delivered, to refused/ for inspection; return its new path."""
        aside = self.folder / "refused"
        aside.mkdir(exist_ok=True)
        if self._files(number).exists():
            shutil.rmtree(aside / self._files(number).name, ignore_errors=True)
            os.replace(self._files(number), aside / self._files(number).name)
        os.replace(self._json(number), aside / self._json(number).name)
        self._forget(number)
        return aside / self._json(number).name

    def wait_for_more(self, timeout_s: float | None = None) -> None:
        """Wait until there is a record, at most `timeout_s` seconds."""
        with self._changed:
            self._changed.wait_for(lambda: bool(self._numbers), timeout_s)

    def __len__(self) -> int:
        return len(self._numbers)

    def close(self) -> None:
        """Release the lock, so that another process can open the outbox."""
        self._lock_file.close()

    def _forget(self, number: int) -> None:
        with self._changed:
            assert self._numbers[0] == number
            self._numbers.popleft()
            self._changed.notify_all()

    def _sweep(self) -> None:
        """Remove leftovers of a killed process: files without a record, partly written records."""
        complete = set(self._numbers)
        for path in self._queue.iterdir():
            if path.suffix == ".files" and int(path.stem) not in complete:
                shutil.rmtree(path)
            elif ".partial." in path.name:
                path.unlink()

    def _json(self, number: int) -> Path:
        return self._queue / f"{number:012d}.json"

    def _files(self, number: int) -> Path:
        return self._queue / f"{number:012d}.files"


def _link_files(files: Mapping[str, Path | str], folder: Path) -> None:
    # A killed process may have left an incomplete folder for this number.
    shutil.rmtree(folder, ignore_errors=True)
    for name, source in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(source, str):
            path.write_text(source)
            continue
        try:
            os.link(source, path)
        except OSError:
            shutil.copyfile(source, path)


def _read(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text())
    except (UnicodeDecodeError, json.JSONDecodeError):
        return {}
    return content if isinstance(content, dict) else {}
