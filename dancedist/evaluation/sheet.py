"""Contact sheets: labelled rows of pictures, to inspect results."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from dancedist.arrays import Rgb

_PAPER, _INK, _EMPTY = (250, 250, 248), (40, 42, 46), (232, 232, 228)


def contact_sheet(rows: Sequence[Sequence[Rgb | None]], labels: Sequence[str], cell_height_px: int = 200) -> Rgb:
    """Draw a contact sheet, uint8 RGB (H, W, 3): one row per label, which is written at its left.

    `rows`: uint8 RGB (h, w, 3) pictures of any sizes, one or None (left empty) per column. Pictures are scaled to
    one height; columns are aligned, each as wide as its widest picture.
    """
    assert rows and len(rows) == len(labels) and len({len(row) for row in rows}) == 1 and rows[0]
    cells = [[None if p is None else _scaled(p, cell_height_px) for p in row] for row in rows]
    gap, text_px = max(4, cell_height_px // 32), max(13, cell_height_px // 12)
    font = cv2.FontFace("sans")
    widths = [
        max((c.shape[1] for c in column if c is not None), default=cell_height_px)
        for column in zip(*cells, strict=True)
    ]
    margin = 3 * gap + max(cv2.getTextSize((0, 0), label, (0, 0), font, text_px)[2] for label in labels)
    size = (gap + len(rows) * (cell_height_px + gap), margin + sum(widths) + gap * len(widths), 3)
    sheet = np.full(size, _PAPER, np.uint8)
    for i, (row, label) in enumerate(zip(cells, labels, strict=True)):
        top, left = gap + i * (cell_height_px + gap), margin
        baseline = top + cell_height_px // 2 + text_px // 3
        cv2.putText(sheet, label, (2 * gap, baseline), _INK, font, text_px, weight=500)
        for cell, width in zip(row, widths, strict=True):
            cell_area = sheet[top : top + cell_height_px, left : left + width]
            if cell is None:
                cell_area[:] = _EMPTY
            else:
                start = (width - cell.shape[1]) // 2
                cell_area[:, start : start + cell.shape[1]] = cell
            left += width + gap
    return sheet


def _scaled(picture: Rgb, height_px: int) -> Rgb:
    height, width = picture.shape[:2]
    size = (max(1, round(width * height_px / height)), height_px)
    method = cv2.INTER_AREA if height_px < height else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(picture, size, interpolation=method), np.uint8)
