"""Progress of a job: a live line in a terminal, otherwise a log line every few seconds."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.live import Live

from cluster.core.error_records import ErrorRecord
from cluster.poses.graph import DetectionUpdate
from cluster.poses.segments import Segment

log = logging.getLogger("dancedist")

LOG_EVERY_S = 10.0


class JobProgress:
    """Counters of `extract`. The time left is estimated from bytes of video: the number of frames is not known yet."""

    def __init__(self, total_bytes: int) -> None:
        self.frames = self.segments = self.found_segments = self.errors = 0
        self.seconds = {"decode": 0.0, "detect": 0.0, "write": 0.0}
        self._total_bytes, self._done_bytes, self._found_bytes = total_bytes, 0.0, 0.0
        self._started = time.monotonic()
        self._counted: set[str] = set()

    def update(self, detection: DetectionUpdate) -> None:
        """Count one detection, video or error."""
        if isinstance(detection, ErrorRecord):
            self.errors += 1
        elif isinstance(detection, Segment):
            self._count_video(detection)
        elif detection is not None:
            segment, result = detection
            self._count_video(segment)
            self.segments += 1
            self.frames += segment.stop_frame - segment.start_frame
            self._done_bytes += segment.size_bytes / segment.segments
            for stage in self.seconds:
                self.seconds[stage] += getattr(result, f"{stage}_s")

    def _count_video(self, segment: Segment) -> None:
        if segment.name not in self._counted:
            self._counted.add(segment.name)
            found_segments = segment.segments - segment.missing
            self.found_segments += found_segments
            self._found_bytes += segment.size_bytes * found_segments / segment.segments

    def line(self) -> str:
        """The progress in one line of text."""
        spent_s = time.monotonic() - self._started
        left_bytes = max(0.0, self._total_bytes - self._done_bytes - self._found_bytes)
        eta = f"{left_bytes / self._done_bytes * spent_s:.0f} s left" if self._done_bytes else "time left unknown"
        found_segments = f", {self.found_segments} segments found done" if self.found_segments else ""
        rate = self.frames / max(spent_s, 1e-9)
        errors = f"{self.errors} error{'' if self.errors == 1 else 's'}"
        return f"poses: {self.frames} frames, {rate:.1f} frames/s, {eta}, {errors}{found_segments}"


@contextmanager
def show_progress(progress: JobProgress) -> Iterator[JobProgress]:
    """Show or log the progress while the block runs, driven by calls of `update`."""
    console = Console(stderr=True)
    if console.is_terminal:
        with Live(get_renderable=progress.line, console=console, refresh_per_second=2):
            yield progress
        return
    update, logged_s = progress.update, time.monotonic()

    def update_and_log(detection: DetectionUpdate) -> None:
        nonlocal logged_s
        update(detection)
        if time.monotonic() - logged_s >= LOG_EVERY_S:
            logged_s = time.monotonic()
            log.info("%s", progress.line())

    progress.update = update_and_log  # type: ignore[method-assign]
    yield progress
    log.info("%s", progress.line())
