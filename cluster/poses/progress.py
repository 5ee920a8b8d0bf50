"""How far a job is: a line that stays in a terminal, lines every few seconds elsewhere."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.live import Live

from cluster.core.error_records import Fault
from cluster.poses.graph import Answer
from cluster.poses.segments import Segment

log = logging.getLogger("dancedist")

LOG_EVERY_S = 10.0


class JobProgress:
    """Counts what `extract` tells of. Time left is judged by bytes of video: how many frames come is not yet known."""

    def __init__(self, total_bytes: int) -> None:
        self.frames = self.segments = self.found_segments = self.errors = 0
        self.seconds = {"decode": 0.0, "detect": 0.0, "write": 0.0}
        self._total_bytes, self._done_bytes, self._found_bytes = total_bytes, 0.0, 0.0
        self._started = time.monotonic()
        self._met: set[str] = set()

    def tell(self, answer: Answer) -> None:
        """Count one more answer."""
        if isinstance(answer, Fault):
            self.errors += 1
        elif isinstance(answer, Segment):
            self._meet(answer)
        elif answer is not None:
            segment, looked = answer
            self._meet(segment)
            self.segments += 1
            self.frames += segment.stop_frame - segment.start_frame
            self._done_bytes += segment.size_bytes / segment.segments
            for stage in self.seconds:
                self.seconds[stage] += getattr(looked, f"{stage}_s")

    def _meet(self, segment: Segment) -> None:
        if segment.name not in self._met:
            self._met.add(segment.name)
            found = segment.segments - segment.missing
            self.found_segments += found
            self._found_bytes += segment.size_bytes * found / segment.segments

    def line(self) -> str:
        """Everything in one line."""
        spent_s = time.monotonic() - self._started
        left_bytes = max(0.0, self._total_bytes - self._done_bytes - self._found_bytes)
        left = f"{left_bytes / self._done_bytes * spent_s:.0f} s left" if self._done_bytes else "time left unknown"
        found = f", {self.found_segments} segments found done" if self.found_segments else ""
        rate = self.frames / max(spent_s, 1e-9)
        errors = f"{self.errors} error{'' if self.errors == 1 else 's'}"
        return f"poses: {self.frames} frames, {rate:.1f} frames/s, {left}, {errors}{found}"


@contextmanager
def shown(progress: JobProgress) -> Iterator[JobProgress]:
    """Tell of it for as long as the block runs; `tell` is what drives it."""
    console = Console(stderr=True)
    if console.is_terminal:
        with Live(get_renderable=progress.line, console=console, refresh_per_second=2):
            yield progress
        return
    tell, told = progress.tell, time.monotonic()

    def tell_and_log(answer: Answer) -> None:
        nonlocal told
        tell(answer)
        if time.monotonic() - told >= LOG_EVERY_S:
            told = time.monotonic()
            log.info("%s", progress.line())

    progress.tell = tell_and_log  # type: ignore[method-assign]
    yield progress
    log.info("%s", progress.line())
