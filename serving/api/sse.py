"""Server-sent events out of the records."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator

from serving.db.models import ENDED
from serving.db.records import Records
from serving.workers.previews import Frames

LOOK_EVERY_S, ALIVE_EVERY_S = 0.4, 15.0


async def event_stream(records: Records, frames: Frames, render_id: str, after: int) -> AsyncIterator[str]:
    """Events after number `after`, until the render has ended; comments between them keep the line open.

    Frames that are new between them are told of in events without a number.
    """
    told_s, shown = time.monotonic(), dict[int, int]()
    while True:
        events = await asyncio.to_thread(records.events, render_id, after)
        for number, kind, data in events:
            after, told_s = number, time.monotonic()
            yield f"id: {number}\nevent: {kind}\ndata: {json.dumps(data)}\n\n"
        if any(kind in ENDED for _, kind, _ in events):
            return
        if not events and await _over(records, render_id):
            return
        newest = await asyncio.to_thread(frames.newest, render_id)
        if new := {number: frame for number, frame in newest.items() if shown.get(number) != frame}:
            shown, told_s = newest, time.monotonic()
            yield f"event: frames\ndata: {json.dumps(new)}\n\n"
        if time.monotonic() - told_s > ALIVE_EVERY_S:
            told_s = time.monotonic()
            yield ": still there\n\n"
        await asyncio.sleep(LOOK_EVERY_S)


async def _over(records: Records, render_id: str) -> bool:
    """Whether all was told already, or there is nothing to tell of."""
    row = await asyncio.to_thread(records.get, render_id)
    return row is None or row.state in ENDED
