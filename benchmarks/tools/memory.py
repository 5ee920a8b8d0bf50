"""Peak memory of a process with all its child processes."""

from __future__ import annotations

import threading
from contextlib import suppress
from types import TracebackType
from typing import Self

import psutil


class MemoryWatch:
    """Context manager: `peak_mb` is the peak memory of a process and its descendants together.

    A page that several processes share counts once (proportional set size); file pages count as far as they are
    mapped. The kernel's own peak of a process cannot be used: a child starts with its parent's. Sampling a few dozen
    processes takes a tenth of a second of one core.
    """

    def __init__(self, pid: int, every_s: float = 2.0) -> None:
        self._root, self._stop, self._every_s = psutil.Process(pid), threading.Event(), every_s
        self.peak_mb = 0.0
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stop.wait(self._every_s):
            self.peak_mb = max(self.peak_mb, self._memory_mb())

    def _memory_mb(self) -> float:
        total = 0
        with suppress(psutil.NoSuchProcess):
            for process in [self._root, *self._root.children(recursive=True)]:
                with suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
                    total += process.memory_full_info().pss
        return total / 1e6
