"""The records of all requested renders, shared by the API, dispatchers and maintenance jobs."""

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
from serving.db.engine import Database, add_event, finish_render, global_lock, now_s
from serving.db.models import OPEN, ChunkRow, EventRow, FrameRow, RenderRow, ResultRow


class RequestDiffers(DancedistError):
    """An idempotency key was used before, for a different request."""

    slug = "idempotency-key-reused"


class QueueFull(DancedistError):
    """The queue has reached its limit."""

    slug = "queue-full"


class TooManyRenders(DancedistError):
    """An API key has reached its limit of queued and running renders."""

    slug = "too-many-renders"


@dataclass(frozen=True)
class NewRender:
    """A requested render. `dancer` is a fixed version, not an alias."""

    key_id: str
    idempotency_key: str | None
    request_sha256: str
    request: dict[str, Any]
    dancer: dict[str, Any]
    fingerprint: str
    source: str
    webhook: str | None = None


class Records:
    """Operations on records that need no lease."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(
        self, new_render: NewRender, queue: int, per_key: int, check: Callable[[], object] = lambda: None
    ) -> tuple[RenderRow, bool]:
        """Queue a render and return its row and True.

        If the idempotency key was used before, the earlier row and False are returned.
        `check` runs under the lock that also guards the removal of unused files; it may raise.

        Raises RequestDiffers, QueueFull, TooManyRenders.
        """
        try:
            with self._database.writing() as session:
                if (existing := _find_same(session, new_render)) is not None:
                    return existing, False
                _check_limits(session, new_render.key_id, queue, per_key)
                check()
                row = RenderRow(id=new_id(), state="queued", created_s=now_s(session), **new_render.__dict__)
                session.add(row)
                session.flush()
                add_event(session, row.id, "queued", {})
                return row, True
        except IntegrityError:
            # A concurrent request with the same idempotency key was faster.
            with self._database.reading() as session:
                existing = _find_same(session, new_render)
            assert existing is not None
            return existing, False

    def get(self, render_id: str) -> RenderRow | None:
        """A render by its id, if it exists."""
        with self._database.reading() as session:
            return session.get(RenderRow, render_id)

    def chunks(self, render_id: str) -> dict[int, dict[str, Any]]:
        """The stored chunks of a render, by chunk number."""
        with self._database.reading() as session:
            rows = session.scalars(select(ChunkRow).where(ChunkRow.render_id == render_id).order_by(ChunkRow.number))
            return {row.number: row.stored for row in rows}

    def page(self, key_id: str | None, before: str | None, limit: int) -> Sequence[RenderRow]:
        """The newest renders, of one key or of all, that are older than the render `before`."""
        query = select(RenderRow).order_by(RenderRow.id.desc()).limit(limit)
        if key_id is not None:
            query = query.where(RenderRow.key_id == key_id)
        if before is not None:
            query = query.where(RenderRow.id < before)
        with self._database.reading() as session:
            return session.scalars(query).all()

    def events(self, render_id: str, after: int) -> list[tuple[int, str, dict[str, Any]]]:
        """Number, kind and data of the events after number `after`."""
        query = select(EventRow).where(EventRow.render_id == render_id, EventRow.number > after)
        with self._database.reading() as session:
            return [(row.number, row.kind, row.data) for row in session.scalars(query.order_by(EventRow.number))]

    def count(self, state: str) -> int:
        """Number of renders in a state."""
        with self._database.reading() as session:
            return session.scalar(select(func.count()).where(RenderRow.state == state)) or 0

    def oldest_waiting_s(self) -> float:
        """Age of the oldest queued render in seconds; 0 if none waits."""
        with self._database.reading() as session:
            first = session.scalar(select(func.min(RenderRow.created_s)).where(RenderRow.state == "queued"))
            return 0.0 if first is None else now_s(session) - first

    def result_of(self, fingerprint: str) -> dict[str, Any] | None:
        """The published result of a fingerprint, if any."""
        with self._database.reading() as session:
            row = session.get(ResultRow, fingerprint)
            return None if row is None else row.result

    def cancel(self, render_id: str) -> RenderRow | None:
        """Cancel a render unless it has ended; its lease becomes invalid. Returns its row, if it exists."""
        with self._database.writing() as session:
            row = session.scalars(select(RenderRow).where(RenderRow.id == render_id).with_for_update()).first()
            if row is not None and row.state in OPEN:
                finish_render(session, row, "cancelled")
            return row

    def ended_before(self, age_s: float) -> Sequence[RenderRow]:
        """Renders that ended at least `age_s` seconds ago."""
        with self._database.reading() as session:
            is_old = RenderRow.ended_s <= now_s(session) - age_s
            return session.scalars(select(RenderRow).where(is_old)).all()

    def unpublish(self, fingerprint: str) -> None:
        """Delete the result of a fingerprint, so that new requests render it again; unless several renders use it."""
        with self._database.writing() as session:
            global_lock(session)
            if _count(session, RenderRow.fingerprint == fingerprint) <= 1:
                session.execute(delete(ResultRow).where(ResultRow.fingerprint == fingerprint))

    def forget(self, render_id: str, remove: Callable[[], object] = lambda: None) -> None:
        """Delete the records of a render; call `remove` for its files if no other render shares its fingerprint."""
        with self._database.writing() as session:
            global_lock(session)
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
        """Renders of all versions of a dancer, by the name of its registered model."""
        with self._database.reading() as session:
            return session.scalars(select(RenderRow).where(RenderRow.dancer["name"].as_string() == model)).all()

    def remove_unused_source(self, source: str, remove: Callable[[], object]) -> None:
        """Call `remove` if no render uses this source, while no new render can be queued."""
        self._remove_unless(RenderRow.source == source, remove)

    def remove_unused_fingerprint(self, fingerprint: str, remove: Callable[[], object]) -> None:
        """Call `remove` if no render has this fingerprint, while no new render can be queued."""
        self._remove_unless(RenderRow.fingerprint == fingerprint, remove)

    def _remove_unless(self, condition: ColumnElement[bool], remove: Callable[[], object]) -> None:
        if self._no_render(condition):
            with self._database.writing() as session:
                global_lock(session)
                if not _count(session, condition):
                    remove()

    def _no_render(self, condition: ColumnElement[bool]) -> bool:
        with self._database.reading() as session:
            return not _count(session, condition)


def new_id() -> str:
    """A render id: ascends with time and cannot be guessed."""
    return f"{time.time_ns():016x}{secrets.token_hex(8)}"


def _find_same(session: Session, new_render: NewRender) -> RenderRow | None:
    if new_render.idempotency_key is None:
        return None
    same_key = (RenderRow.key_id == new_render.key_id) & (RenderRow.idempotency_key == new_render.idempotency_key)
    existing = session.scalars(select(RenderRow).where(same_key)).first()
    if existing is not None and existing.request_sha256 != new_render.request_sha256:
        raise RequestDiffers("was used before for a different request", file=new_render.idempotency_key)
    return existing


def _count(session: Session, condition: ColumnElement[bool]) -> int:
    return session.scalar(select(func.count()).select_from(RenderRow).where(condition)) or 0


def _check_limits(session: Session, key_id: str, queue: int, per_key: int) -> None:
    global_lock(session)
    if (waiting := _count(session, RenderRow.state == "queued")) >= queue:
        raise QueueFull("too many renders are queued", expected=f"fewer than {queue}", got=str(waiting))
    if (open_renders := _count(session, (RenderRow.key_id == key_id) & RenderRow.state.in_(OPEN))) >= per_key:
        raise TooManyRenders(
            "the key has too many renders",
            expected=f"fewer than {per_key}",
            got=str(open_renders),
        )
