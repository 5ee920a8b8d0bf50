"""What a job counts, for Prometheus: every Ray node serves it, and Ray's dashboard draws it."""

from __future__ import annotations

from functools import cache
from typing import Literal

from ray.util.metrics import Counter

Stage = Literal["decode", "detect", "write", "join"]


def count_segment(frames: int, seconds: dict[Stage, float]) -> None:
    """A segment of so many frames was looked at."""
    _counter("dancedist_frames", "Frames in which people were looked for").inc(max(frames, 1))
    _counter("dancedist_segments", "Segments in which people were looked for").inc()
    count_seconds(seconds)


def count_seconds(seconds: dict[Stage, float]) -> None:
    """Time that was spent, by stage. Decoding and detection overlap."""
    for stage, spent_s in seconds.items():
        _counter("dancedist_seconds", "Seconds spent by workers", "stage").inc(max(spent_s, 1e-9), {"stage": stage})


def count_error(slug: str) -> None:
    """Something went wrong with a video."""
    _counter("dancedist_errors", "What went wrong with videos, by slug", "slug").inc(1, {"slug": slug})


@cache
def _counter(name: str, description: str, *tags: str) -> Counter:
    return Counter(name, description, tag_keys=tags)
