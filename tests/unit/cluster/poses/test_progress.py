from __future__ import annotations

import logging

import pytest

from cluster.core.error_records import Fault
from cluster.poses import progress as module
from cluster.poses.progress import JobProgress, shown
from cluster.poses.segments import Looked, Segment


def segment(name: str = "a", start: int = 0, *, segments: int = 4, missing: int = 4, size_bytes: int = 1000) -> Segment:
    return Segment(name, f"/{name}.mp4", size_bytes, "e", "s", "k", 32, segments, missing, start, start + 8)


def test_time_left_goes_by_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    progress = JobProgress(total_bytes=4000)
    assert "time left unknown" in progress.line()
    now[0] += 10
    for start in (0, 8, 16, 24):
        progress.tell((segment(start=start), Looked(0.1, 0.5, 0.01)))
    progress.tell(Fault("bad", "u", "video-unreadable", "m"))
    progress.tell(None)
    assert progress.line() == "poses: 32 frames, 3.2 frames/s, 30 s left, 1 error"
    assert progress.seconds == pytest.approx({"decode": 0.4, "detect": 2.0, "write": 0.04})


def test_what_is_found_done_is_no_progress(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    progress = JobProgress(total_bytes=3000)
    now[0] = 5
    progress.tell(segment("whole", missing=0))
    progress.tell((segment("half", 16, missing=2), Looked(0, 0, 0)))
    progress.tell((segment("half", 24, missing=2), Looked(0, 0, 0)))
    assert progress.found_segments == 4 + 2
    # 500 bytes in 5 s, 1500 found, 1000 left.
    assert progress.line() == "poses: 16 frames, 3.2 frames/s, 10 s left, 0 errors, 6 segments found done"


def test_it_is_told_now_and_then(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    now = [0.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    with caplog.at_level(logging.INFO, "dancedist"), shown(JobProgress(1)) as progress:
        for _ in range(25):
            now[0] += 1
            progress.tell(None)
    assert len(caplog.messages) == 3
