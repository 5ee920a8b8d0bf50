"""Progress of long work: a bar with rate and time left in a terminal, plain log lines elsewhere."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

log = logging.getLogger("dancedist")

Advance = Callable[[int], None]
LOG_EVERY_S = 10.0


def silent(done: int) -> None:
    """An `Advance` that tells nobody."""


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:.1f}/s")


@contextmanager
def progress(what: str, total: int, unit: str = "frames") -> Iterator[Advance]:
    """`with progress("poses", 500) as advance: ... advance(1)`."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield _lines(what, total, unit)
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn(unit), _Rate())
    with Progress(*columns, TimeRemainingColumn(), console=console) as bar:
        task = bar.add_task(what, total=total)
        yield lambda done: bar.advance(task, done)


def _lines(what: str, total: int, unit: str) -> Advance:
    started = told = time.monotonic()
    count = 0

    def advance(done: int) -> None:
        nonlocal told, count
        count += done
        now = time.monotonic()
        if count < total and now - told < LOG_EVERY_S:
            return
        told = now
        rate = count / max(now - started, 1e-9)
        left_s = (total - count) / max(rate, 1e-9)
        log.info("%s: %d of %d %s, %.1f/s, %.0f s left", what, count, total, unit, rate, left_s)

    return advance
