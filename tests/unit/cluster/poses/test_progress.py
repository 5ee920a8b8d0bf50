from __future__ import annotations

import logging

import pytest

from cluster.core.error_records import ErrorRecord
from cluster.poses import progress as module
from cluster.poses.progress import JobProgress, show_progress
from cluster.poses.segments import DetectionResult, Segment


def segment(name: str = "a", start: int = 0, *, segments: int = 4, missing: int = 4, size_bytes: int = 1000) -> Segment:
    return Segment(name, f"/{name}.mp4", size_bytes, "e", "s", "k", 32, segments, missing, start, start + 8)


def test_time_left_is_estimated_from_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    progress = JobProgress(total_bytes=4000)
    assert "time left unknown" in progress.line()
    now[0] += 10
    for start in (0, 8, 16, 24):
        progress.update((segment(start=start), DetectionResult(0.1, 0.5, 0.01)))
    progress.update(ErrorRecord("bad", "u", "video-unreadable", "m"))
    progress.update(None)
    assert progress.line() == "poses: 32 frames, 3.2 frames/s, 30 s left, 1 error"
    assert progress.seconds == pytest.approx({"decode": 0.4, "detect": 2.0, "write": 0.04})


def test_segments_found_done_do_not_count_as_progress(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    progress = JobProgress(total_bytes=3000)
    now[0] = 5
    progress.update(segment("whole", missing=0))
    progress.update((segment("half", 16, missing=2), DetectionResult(0, 0, 0)))
    progress.update((segment("half", 24, missing=2), DetectionResult(0, 0, 0)))
    assert progress.found_segments == 4 + 2
    # 500 bytes in 5 s, 1500 found, 1000 left.
    assert progress.line() == "poses: 16 frames, 3.2 frames/s, 10 s left, 0 errors, 6 segments found done"


def test_progress_is_logged_at_intervals(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    now = [0.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    with caplog.at_level(logging.INFO, "dancedist"), show_progress(JobProgress(1)) as progress:
        for _ in range(25):
            now[0] += 1
            progress.update(None)
    assert len(caplog.messages) == 3
