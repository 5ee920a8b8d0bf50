"""How much memory a process and all that it started hold together."""

from __future__ import annotations

import threading
from contextlib import suppress
from types import TracebackType
from typing import Self

import psutil


class MemoryWatch:
    """While the block lasts, `peak_mb` is the most that a process and its descendants have held at one time.

    A page that several share counts once (proportional set size); what is read from files and can be dropped counts
    as far as it is mapped. The kernel's own maximum of a process is no use: a child begins with its parent's.
    Looking at a few dozen processes takes the kernel a tenth of a second of a core.
    """

    def __init__(self, pid: int, every_s: float = 2.0) -> None:
        self._root, self._over, self._every_s = psutil.Process(pid), threading.Event(), every_s
        self.peak_mb = 0.0
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._over.wait(self._every_s):
            self.peak_mb = max(self.peak_mb, self._held_mb())

    def _held_mb(self) -> float:
        held = 0
        with suppress(psutil.NoSuchProcess):
            for process in [self._root, *self._root.children(recursive=True)]:
                with suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
                    held += process.memory_full_info().pss
        return held / 1e6
