"""What is still to be sent, on disk and in order: a record is there whole or not at all, and goes when it was sent."""

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

from cluster.storage.base import local_errors
from dancedist.files import published


@dataclass(frozen=True)
class Record:
    """One thing to send: plain JSON values, and a folder of files where it has any."""

    number: int
    content: dict[str, Any]
    files: Path


class Spool:
    """A queue that outlives its process. Any thread may append; one thread takes from its head.

    A record's files are linked, or copied where they lie on another disk: they may be replaced or removed afterwards,
    but not altered in place. Raises BlockingIOError where another process has it open, and StorageUnavailable.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self._queue = folder, folder / "queue"
        with local_errors(folder):
            self._queue.mkdir(parents=True, exist_ok=True)
            self._lock_file = (folder / "lock").open("w")
        fcntl.flock(self._lock_file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        self._changed = threading.Condition()
        self._numbers = deque(sorted(int(file.stem) for file in self._queue.glob("[0-9]*.json")))
        self._last = self._numbers[-1] if self._numbers else 0
        self._sweep()

    def append(self, content: Mapping[str, Any], files: Mapping[str, Path | str] | None = None) -> int:
        """Keep a record; `files`: name -> the file, or its text. Returns its number."""
        with self._changed, local_errors(self.folder):
            number = self._last + 1
            if files:
                _gather(files, self._files(number))
            # Without this file there is no record, whatever else a kill has left.
            with published(self._json(number)) as partial:
                partial.write_text(json.dumps(content))
            self._last = number
            self._numbers.append(number)
            self._changed.notify_all()
            return number

    def head(self, most: int = 1) -> list[Record]:
        """The oldest records; one that cannot be read (a power cut) has no content."""
        with self._changed:
            numbers = [self._numbers[i] for i in range(min(most, len(self._numbers)))]
        return [Record(n, _read(self._json(n)), self._files(n)) for n in numbers]

    def remove(self, number: int) -> None:
        """Forget the oldest record, which must have this number."""
        self._json(number).unlink()
        shutil.rmtree(self._files(number), ignore_errors=True)
        self._forget(number)

    def set_aside(self, number: int) -> Path:
        """Move the oldest record, which nobody will take, to where a person can look at it."""
        aside = self.folder / "refused"
        aside.mkdir(exist_ok=True)
        if self._files(number).exists():
            shutil.rmtree(aside / self._files(number).name, ignore_errors=True)
            os.replace(self._files(number), aside / self._files(number).name)
        os.replace(self._json(number), aside / self._json(number).name)
        self._forget(number)
        return aside / self._json(number).name

    def wait_for_more(self, timeout_s: float | None = None) -> None:
        """Until there is a record, for `timeout_s` at most."""
        with self._changed:
            self._changed.wait_for(lambda: bool(self._numbers), timeout_s)

    def __len__(self) -> int:
        return len(self._numbers)

    def close(self) -> None:
        """Let another process open it."""
        self._lock_file.close()

    def _forget(self, number: int) -> None:
        with self._changed:
            assert self._numbers[0] == number
            self._numbers.popleft()
            self._changed.notify_all()

    def _sweep(self) -> None:
        """Remove what a kill has left: files without a record, half-written records."""
        whole = set(self._numbers)
        for path in self._queue.iterdir():
            if path.suffix == ".files" and int(path.stem) not in whole:
                shutil.rmtree(path)
            elif ".partial." in path.name:
                path.unlink()

    def _json(self, number: int) -> Path:
        return self._queue / f"{number:012d}.json"

    def _files(self, number: int) -> Path:
        return self._queue / f"{number:012d}.files"


def _gather(files: Mapping[str, Path | str], folder: Path) -> None:
    # A record of this number may have lost its files' folder to a kill that left it half full.
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
