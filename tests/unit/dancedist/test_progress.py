from __future__ import annotations

import logging

import pytest

from dancedist import progress as module
from dancedist.progress import progress


def test_without_a_terminal_progress_is_logged(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LOG_EVERY_S", 0.0)
    with caplog.at_level(logging.INFO, "dancedist"), progress("poses", 3) as advance:
        for _ in range(3):
            advance(1)
    assert [m.split(",")[0] for m in caplog.messages] == [f"poses: {n} of 3 frames" for n in (1, 2, 3)]
    assert "s left" in caplog.messages[0]
