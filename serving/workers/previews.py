"""Previews: small frames of chunks that are being rendered, for watchers. Nothing else depends on them."""

from __future__ import annotations

import logging
import time

import cv2
import numpy as np
from numpy.typing import NDArray
from sqlalchemy import delete, select
from sqlalchemy.exc import SQLAlchemyError

from serving.db.engine import Database
from serving.db.models import FrameRow

log = logging.getLogger("dancedist")
EVERY_S, LONGER_SIDE_PX, QUALITY = 1.0, 320, 70


class Previews:
    """The newest preview of every chunk that is being rendered."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._shown_s: dict[tuple[str, int], float] = {}

    def show(self, render_id: str, number: int, frame: int, picture: NDArray[np.uint8]) -> None:
        """Store a frame, uint8 RGB (H, W, 3), as the chunk's preview; at most one per EVERY_S seconds."""
        now_s, key = time.monotonic(), (render_id, number)
        if now_s - self._shown_s.get(key, 0.0) < EVERY_S:
            return
        self._shown_s = {k: at for k, at in self._shown_s.items() if now_s - at < 60} | {key: now_s}
        row = FrameRow(render_id=render_id, number=number, frame=frame, picture=_jpeg(picture))
        try:
            with self._database.writing() as session:
                session.merge(row)
        except SQLAlchemyError as error:
            # The render may have been removed, or the database be unavailable: the film does not need previews.
            log.info("a preview was not stored: %s", type(error).__name__)

    def newest(self, render_id: str) -> dict[int, int]:
        """The newest frame's number of each chunk."""
        with self._database.reading() as session:
            rows = session.execute(select(FrameRow.number, FrameRow.frame).where(FrameRow.render_id == render_id))
            return {row.number: row.frame for row in rows}

    def picture(self, render_id: str, number: int) -> bytes | None:
        """The newest preview of a chunk as JPEG, if any."""
        with self._database.reading() as session:
            row = session.get(FrameRow, (render_id, number))
            return None if row is None else row.picture

    def clear(self, render_id: str) -> None:
        """Delete the previews of a render."""
        with self._database.writing() as session:
            session.execute(delete(FrameRow).where(FrameRow.render_id == render_id))


def _jpeg(picture: NDArray[np.uint8]) -> bytes:
    scale = min(1.0, LONGER_SIDE_PX / max(picture.shape[:2]))
    size = max(1, round(picture.shape[1] * scale)), max(1, round(picture.shape[0] * scale))
    small = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
    encoded, jpeg = cv2.imencode(".jpg", small[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
    assert encoded
    return jpeg.tobytes()
