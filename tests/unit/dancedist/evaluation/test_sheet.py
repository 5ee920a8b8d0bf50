from __future__ import annotations

import numpy as np
import pytest

from dancedist.evaluation.sheet import contact_sheet


def plain(width: int, height: int, value: int) -> np.ndarray:
    return np.full((height, width, 3), value, np.uint8)


def test_pictures_keep_their_aspect_and_are_aligned_in_columns() -> None:
    rows = [[plain(400, 200, 10), plain(400, 200, 10)], [plain(50, 100, 20), None]]
    sheet = contact_sheet(rows, ["source", "truth"], cell_height_px=100)
    dark, less_dark = (sheet == 10).all(axis=2), (sheet == 20).all(axis=2)
    assert dark.sum() == 2 * 200 * 100
    assert less_dark.sum() == 50 * 100
    columns = np.flatnonzero(dark.any(axis=0))
    inside = np.flatnonzero(less_dark.any(axis=0))
    assert len(columns) == 400
    # Centred in the first column.
    assert inside.mean() == pytest.approx(columns[:200].mean(), abs=1)


def test_labels_are_written_left_of_their_row() -> None:
    rows = [[plain(60, 60, 255)], [plain(60, 60, 255)]]
    with_text = contact_sheet(rows, ["nearest frame", ""], cell_height_px=60)
    ink = with_text.max(axis=2) < 120
    assert ink[:66].sum() > 50
    assert not ink[66:].any()
    assert np.flatnonzero(ink.any(axis=0)).max() < with_text.shape[1] - 64


def test_rows_of_unequal_length_are_a_bug() -> None:
    with pytest.raises(AssertionError):
        contact_sheet([[plain(5, 5, 0)], []], ["a", "b"])
