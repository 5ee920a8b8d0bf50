"""Progress of long operations: a bar with rate and remaining time in a terminal, log lines elsewhere."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

log = logging.getLogger("dancedist")

# Called with the number of items done since the last call.
Advance = Callable[[int], None]
LOG_EVERY_S = 10.0


def silent(done: int) -> None:
    """An `Advance` that does nothing."""


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:.1f}/s")


@contextmanager
def progress(description: str, total: int, unit: str = "frames") -> Iterator[Advance]:
    """Report progress: `with progress("poses", 500) as advance: ... advance(1)`."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield _log_lines(description, total, unit)
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn(unit), _Rate())
    with Progress(*columns, TimeRemainingColumn(), console=console) as bar:
        task = bar.add_task(description, total=total)
        yield lambda done: bar.advance(task, done)


def _log_lines(description: str, total: int, unit: str) -> Advance:
    """Log a line every LOG_EVERY_S seconds, and at the end."""
    started = last_log = time.monotonic()
    count = 0

    def advance(done: int) -> None:
        nonlocal last_log, count
        count += done
        now = time.monotonic()
        if count < total and now - last_log < LOG_EVERY_S:
            return
        last_log = now
        rate = count / max(now - started, 1e-9)
        remaining_s = (total - count) / max(rate, 1e-9)
        log.info("%s: %d of %d %s, %.1f/s, %.0f s left", description, count, total, unit, rate, remaining_s)

    return advance
