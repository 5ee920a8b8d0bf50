"""Leases on renders: they expire, and only the holder of a lease may write to its render."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from serving.db.engine import Database, add_event, finish_render, now_s
from serving.db.models import ChunkRow, RenderRow, ResultRow

# A render that was attempted this often probably crashes its workers.
MAX_ATTEMPTS = 30


class LeaseLost(Exception):
    """Another worker took the render over, or it was cancelled: stop, and write nothing."""


@dataclass(frozen=True)
class Lease:
    """The right to work on a render until the lease expires; writes with an older token are refused."""

    render_id: str
    attempt: int
    token: str


class Leases:
    """Lease operations for render workers; each needs a lease token."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def acquire(self, lease_s: float) -> tuple[Lease, RenderRow] | None:
        """Lease the oldest available render for `lease_s` seconds; None if there is none.

        Available are queued renders, and running ones whose lease has expired.
        """
        with self._database.writing() as session:
            now = now_s(session)
            available = (RenderRow.state == "queued") | (
                (RenderRow.state == "running") & (RenderRow.lease_until_s < now)
            )
            query = select(RenderRow).where(available).order_by(RenderRow.id).limit(1).with_for_update(skip_locked=True)
            row = session.scalars(query).first()
            if row is None:
                return None
            row.state, row.attempt, row.token = "running", row.attempt + 1, secrets.token_hex(16)
            row.lease_until_s = now + lease_s
            add_event(session, row.id, "started", {"attempt": row.attempt})
            return Lease(row.id, row.attempt, row.token), row

    def renew(self, lease: Lease, lease_s: float) -> None:
        """Extend a lease to `lease_s` seconds from now. Raises LeaseLost."""
        with self._database.writing() as session:
            _row_of_lease(session, lease).lease_until_s = now_s(session) + lease_s

    def update(self, lease: Lease, kind: str | None = None, data: dict[str, Any] | None = None, **columns: Any) -> None:
        """Set columns of the render, and add an event if `kind` is given. Raises LeaseLost."""
        with self._database.writing() as session:
            row = _row_of_lease(session, lease)
            for name, value in columns.items():
                setattr(row, name, value)
            if kind is not None:
                add_event(session, row.id, kind, data or {})

    def save_chunk(self, lease: Lease, number: int, stored: dict[str, Any]) -> None:
        """Record a stored chunk, replacing an earlier version of it. Raises LeaseLost."""
        with self._database.writing() as session:
            _row_of_lease(session, lease)
            session.merge(ChunkRow(render_id=lease.render_id, number=number, stored=stored))
            add_event(session, lease.render_id, "chunk", {"number": number, **stored})

    def publish(self, lease: Lease, result: dict[str, Any]) -> dict[str, Any]:
        """End the render as done and return its result. Raises LeaseLost.

        If its fingerprint has a result already, that one is used and returned instead.
        """
        with self._database.writing() as session:
            row = _row_of_lease(session, lease)
            published = session.get(ResultRow, row.fingerprint)
            if published is None:
                published = ResultRow(fingerprint=row.fingerprint, result=result, render_id=row.id)
                session.add(published)
            finish_render(session, row, "done", result=published.result)
            return published.result

    def fail(self, lease: Lease, problem: dict[str, Any]) -> None:
        """End the render as failed. Raises LeaseLost."""
        with self._database.writing() as session:
            finish_render(session, _row_of_lease(session, lease), "failed", problem=problem)

    def next_webhook(self, waits_s: Sequence[float]) -> RenderRow | None:
        """An ended render whose webhook is due, if any. Schedules its next try, unless all of `waits_s` were used."""
        with self._database.writing() as session:
            now = now_s(session)
            due = select(RenderRow).where(RenderRow.webhook_next_s <= now).order_by(RenderRow.webhook_next_s)
            row = session.scalars(due.limit(1).with_for_update(skip_locked=True)).first()
            if row is not None:
                remaining = waits_s[row.webhook_tries :]
                row.webhook_tries, row.webhook_next_s = row.webhook_tries + 1, now + remaining[0] if remaining else None
            return row

    def webhook_delivered(self, render_id: str) -> None:
        """Stop calling the webhook of a render."""
        with self._database.writing() as session:
            row = session.get(RenderRow, render_id)
            if row is not None:
                row.webhook_next_s = None


def _row_of_lease(session: Session, lease: Lease) -> RenderRow:
    query = select(RenderRow).where(RenderRow.id == lease.render_id).with_for_update()
    row = session.scalars(query).first()
    if row is None or row.token != lease.token or row.state != "running":
        raise LeaseLost(lease.render_id)
    return row
