"""What is known of every render that was asked for, outside of the processes that work on it."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, delete, func, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from dancedist.errors import DancedistError
from serving.db.engine import Database, alone, end, now_s, tell
from serving.db.models import OPEN, ChunkRow, EventRow, FrameRow, RenderRow, ResultRow


class RequestDiffers(DancedistError):
    """An idempotency key that came with another request before."""

    slug = "idempotency-key-reused"


class QueueFull(DancedistError):
    """As many renders wait as may."""

    slug = "queue-full"


class TooManyRenders(DancedistError):
    """One key has as many renders under way as it may."""

    slug = "too-many-renders"


@dataclass(frozen=True)
class Asked:
    """A render that is asked for. `dancer` is a version, not an alias: what it is does not change any more."""

    key_id: str
    idempotency_key: str | None
    request_sha256: str
    request: dict[str, Any]
    dancer: dict[str, Any]
    fingerprint: str
    source: str
    webhook: str | None = None


class Records:
    """What those do to the records who ask for renders."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(
        self, asked: Asked, queue: int, per_key: int, check: Callable[[], object] = lambda: None
    ) -> tuple[RenderRow, bool]:
        """Queue a render; one that came with the same idempotency key before is found instead, and False.

        `check` may raise; while it runs nothing is removed of what no render needs.

        Raises RequestDiffers, QueueFull, TooManyRenders.
        """
        try:
            with self._database.writing() as session:
                if (found := _same(session, asked)) is not None:
                    return found, False
                _check_room(session, asked.key_id, queue, per_key)
                check()
                row = RenderRow(id=new_id(), state="queued", created_s=now_s(session), **asked.__dict__)
                session.add(row)
                session.flush()
                tell(session, row.id, "queued", {})
                return row, True
        except IntegrityError:
            # Another request with the same key came between.
            with self._database.reading() as session:
                found = _same(session, asked)
            assert found is not None
            return found, False

    def get(self, render_id: str) -> RenderRow | None:
        """One render."""
        with self._database.reading() as session:
            return session.get(RenderRow, render_id)

    def chunks(self, render_id: str) -> dict[int, dict[str, Any]]:
        """What is stored of it, by the chunk's number."""
        with self._database.reading() as session:
            rows = session.scalars(select(ChunkRow).where(ChunkRow.render_id == render_id).order_by(ChunkRow.number))
            return {row.number: row.stored for row in rows}

    def page(self, key_id: str | None, before: str | None, limit: int) -> Sequence[RenderRow]:
        """The newest renders, of one key or all, older than `before`."""
        query = select(RenderRow).order_by(RenderRow.id.desc()).limit(limit)
        if key_id is not None:
            query = query.where(RenderRow.key_id == key_id)
        if before is not None:
            query = query.where(RenderRow.id < before)
        with self._database.reading() as session:
            return session.scalars(query).all()

    def events(self, render_id: str, after: int) -> list[tuple[int, str, dict[str, Any]]]:
        """Number, kind and data of what happened since."""
        query = select(EventRow).where(EventRow.render_id == render_id, EventRow.number > after)
        with self._database.reading() as session:
            return [(row.number, row.kind, row.data) for row in session.scalars(query.order_by(EventRow.number))]

    def count(self, state: str) -> int:
        """How many are in a state."""
        with self._database.reading() as session:
            return session.scalar(select(func.count()).where(RenderRow.state == state)) or 0

    def oldest_waiting_s(self) -> float:
        """Since when the queue's first waits."""
        with self._database.reading() as session:
            first = session.scalar(select(func.min(RenderRow.created_s)).where(RenderRow.state == "queued"))
            return 0.0 if first is None else now_s(session) - first

    def result_of(self, fingerprint: str) -> dict[str, Any] | None:
        """The film that was published for it."""
        with self._database.reading() as session:
            row = session.get(ResultRow, fingerprint)
            return None if row is None else row.result

    def cancel(self, render_id: str) -> RenderRow | None:
        """End it unless it has ended; whoever works on it is superseded."""
        with self._database.writing() as session:
            row = session.scalars(select(RenderRow).where(RenderRow.id == render_id).with_for_update()).first()
            if row is not None and row.state in OPEN:
                end(session, row, "cancelled")
            return row

    def ended_before(self, age_s: float) -> Sequence[RenderRow]:
        """Renders that ended so long ago."""
        with self._database.reading() as session:
            old = RenderRow.ended_s <= now_s(session) - age_s
            return session.scalars(select(RenderRow).where(old)).all()

    def unpublish(self, fingerprint: str) -> None:
        """Whoever asks for this film from now on has it made again; unless several renders have it."""
        with self._database.writing() as session:
            alone(session)
            if _count(session, RenderRow.fingerprint == fingerprint) <= 1:
                session.execute(delete(ResultRow).where(ResultRow.fingerprint == fingerprint))

    def forget(self, render_id: str, remove: Callable[[], object] = lambda: None) -> None:
        """Remove all that is known of a render; and, by `remove`, the files of its film that no other has."""
        with self._database.writing() as session:
            alone(session)
            row = session.get(RenderRow, render_id)
            if row is None:
                return
            if _count(session, RenderRow.fingerprint == row.fingerprint) <= 1:
                session.execute(delete(ResultRow).where(ResultRow.fingerprint == row.fingerprint))
                remove()
            for table in (ChunkRow, EventRow, FrameRow):
                session.execute(delete(table).where(table.render_id == render_id))
            session.delete(row)

    def of_dancer(self, model: str) -> Sequence[RenderRow]:
        """Renders of all versions of a dancer, by the name of its model."""
        with self._database.reading() as session:
            return session.scalars(select(RenderRow).where(RenderRow.dancer["name"].as_string() == model)).all()

    def unneeded(self, source: str, remove: Callable[[], object]) -> None:
        """Call `remove` unless a render has this source, while none can be asked for."""
        self._unless(RenderRow.source == source, remove)

    def unknown(self, fingerprint: str, remove: Callable[[], object]) -> None:
        """Call `remove` unless a render has this fingerprint, while none can be asked for."""
        self._unless(RenderRow.fingerprint == fingerprint, remove)

    def _unless(self, which: ColumnElement[bool], remove: Callable[[], object]) -> None:
        if self._none(which):
            with self._database.writing() as session:
                alone(session)
                if not _count(session, which):
                    remove()

    def _none(self, which: ColumnElement[bool]) -> bool:
        with self._database.reading() as session:
            return not _count(session, which)


def new_id() -> str:
    """Ascends with time, and cannot be guessed."""
    return f"{time.time_ns():016x}{secrets.token_hex(8)}"


def _same(session: Session, asked: Asked) -> RenderRow | None:
    if asked.idempotency_key is None:
        return None
    mine = (RenderRow.key_id == asked.key_id) & (RenderRow.idempotency_key == asked.idempotency_key)
    found = session.scalars(select(RenderRow).where(mine)).first()
    if found is not None and found.request_sha256 != asked.request_sha256:
        raise RequestDiffers("came with another request before", file=asked.idempotency_key)
    return found


def _count(session: Session, which: ColumnElement[bool]) -> int:
    return session.scalar(select(func.count()).select_from(RenderRow).where(which)) or 0


def _check_room(session: Session, key_id: str, queue: int, per_key: int) -> None:
    alone(session)
    if (waiting := _count(session, RenderRow.state == "queued")) >= queue:
        raise QueueFull("too many renders wait", expected=f"fewer than {queue}", got=str(waiting))
    if (mine := _count(session, (RenderRow.key_id == key_id) & RenderRow.state.in_(OPEN))) >= per_key:
        raise TooManyRenders("too many renders of this key", expected=f"fewer than {per_key}", got=str(mine))
