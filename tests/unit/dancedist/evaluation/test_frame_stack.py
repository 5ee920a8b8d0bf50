from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pytest

from dancedist.evaluation.frame_stack import stacked


def test_a_frame_that_does_not_decode_repeats_the_one_before() -> None:
    a, b = (np.full((2, 3, 3), value, np.uint8) for value in (7, 9))
    stack = stacked(iter([None, a, None, b]), 4)
    assert stack[:, 0, 0, 0].tolist() == [0, 7, 7, 9]


def test_a_stack_is_backed_by_an_unnamed_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    stack = stacked((np.full((4, 4, 3), t, np.uint8) for t in range(5)), 5)
    assert isinstance(stack, np.memmap)
    assert not [*tmp_path.iterdir()]
    assert stack.mean(axis=(1, 2, 3)).tolist() == [0, 1, 2, 3, 4]
