"""Server-sent events of a render, read from the records."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator

from serving.db.models import ENDED
from serving.db.records import Records
from serving.workers.previews import Previews

POLL_EVERY_S, KEEPALIVE_EVERY_S = 0.4, 15.0


async def event_stream(records: Records, previews: Previews, render_id: str, after: int) -> AsyncIterator[str]:
    """Yield the events after number `after` until the render has ended; comments keep the connection open.

    New preview frames are announced by events of the kind "frames", which have no number.
    """
    sent_s, sent_frames = time.monotonic(), dict[int, int]()
    while True:
        events = await asyncio.to_thread(records.events, render_id, after)
        for number, kind, data in events:
            after, sent_s = number, time.monotonic()
            yield f"id: {number}\nevent: {kind}\ndata: {json.dumps(data)}\n\n"
        if any(kind in ENDED for _, kind, _ in events):
            return
        if not events and await _has_ended(records, render_id):
            return
        newest = await asyncio.to_thread(previews.newest, render_id)
        if new := {number: frame for number, frame in newest.items() if sent_frames.get(number) != frame}:
            sent_frames, sent_s = newest, time.monotonic()
            yield f"event: frames\ndata: {json.dumps(new)}\n\n"
        if time.monotonic() - sent_s > KEEPALIVE_EVERY_S:
            sent_s = time.monotonic()
            yield ": keepalive\n\n"
        await asyncio.sleep(POLL_EVERY_S)


async def _has_ended(records: Records, render_id: str) -> bool:
    """Whether the render has ended or does not exist."""
    row = await asyncio.to_thread(records.get, render_id)
    return row is None or row.state in ENDED
