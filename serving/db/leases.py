"""Who works on which render: claims that expire, and writes that only the one who holds a claim may do."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from serving.db.engine import Database, end, now_s, tell
from serving.db.models import ChunkRow, RenderRow, ResultRow

# One that was taken up so often takes its workers with it.
MAX_ATTEMPTS = 30


class Superseded(Exception):
    """Another has taken this render up since, or it was cancelled: whoever hears it stops, and writes nothing."""


@dataclass(frozen=True)
class Claim:
    """The right to work on a render until the lease ends; what is written with an older token is refused."""

    render_id: str
    attempt: int
    token: str


class Claims:
    """What those do to the records who work on renders."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def claim(self, lease_s: float) -> tuple[Claim, RenderRow] | None:
        """The oldest render that nobody works on, for `lease_s`; one whose worker went silent is taken over."""
        with self._database.writing() as session:
            now = now_s(session)
            free = (RenderRow.state == "queued") | ((RenderRow.state == "running") & (RenderRow.lease_until_s < now))
            query = select(RenderRow).where(free).order_by(RenderRow.id).limit(1).with_for_update(skip_locked=True)
            row = session.scalars(query).first()
            if row is None:
                return None
            row.state, row.attempt, row.token = "running", row.attempt + 1, secrets.token_hex(16)
            row.lease_until_s = now + lease_s
            tell(session, row.id, "started", {"attempt": row.attempt})
            return Claim(row.id, row.attempt, row.token), row

    def renew(self, claim: Claim, lease_s: float) -> None:
        """Keep it. Raises Superseded."""
        with self._database.writing() as session:
            _holding(session, claim).lease_until_s = now_s(session) + lease_s

    def note(self, claim: Claim, kind: str | None = None, data: dict[str, Any] | None = None, **columns: Any) -> None:
        """Set columns of it, and tell those who watch. Raises Superseded."""
        with self._database.writing() as session:
            row = _holding(session, claim)
            for name, value in columns.items():
                setattr(row, name, value)
            if kind is not None:
                tell(session, row.id, kind, data or {})

    def note_chunk(self, claim: Claim, number: int, stored: dict[str, Any]) -> None:
        """What is stored of a chunk. Raises Superseded."""
        with self._database.writing() as session:
            _holding(session, claim)
            session.merge(ChunkRow(render_id=claim.render_id, number=number, stored=stored))
            tell(session, claim.render_id, "chunk", {"number": number, **stored})

    def publish(self, claim: Claim, result: dict[str, Any]) -> dict[str, Any]:
        """End it with its film, the first of its fingerprint for good: what is returned. Raises Superseded."""
        with self._database.writing() as session:
            row = _holding(session, claim)
            published = session.get(ResultRow, row.fingerprint)
            if published is None:
                published = ResultRow(fingerprint=row.fingerprint, result=result, render_id=row.id)
                session.add(published)
            end(session, row, "done", result=published.result)
            return published.result

    def fail(self, claim: Claim, problem: dict[str, Any]) -> None:
        """End it with what went wrong. Raises Superseded."""
        with self._database.writing() as session:
            end(session, _holding(session, claim), "failed", problem=problem)

    def next_call(self, waits_s: Sequence[float]) -> RenderRow | None:
        """A render that has ended, whose webhook is due; its next turn comes after the next wait, if there is one."""
        with self._database.writing() as session:
            now = now_s(session)
            due = select(RenderRow).where(RenderRow.webhook_next_s <= now).order_by(RenderRow.webhook_next_s)
            row = session.scalars(due.limit(1).with_for_update(skip_locked=True)).first()
            if row is not None:
                left = waits_s[row.webhook_tries :]
                row.webhook_tries, row.webhook_next_s = row.webhook_tries + 1, now + left[0] if left else None
            return row

    def called(self, render_id: str) -> None:
        """Its webhook was heard."""
        with self._database.writing() as session:
            row = session.get(RenderRow, render_id)
            if row is not None:
                row.webhook_next_s = None


def _holding(session: Session, claim: Claim) -> RenderRow:
    query = select(RenderRow).where(RenderRow.id == claim.render_id).with_for_update()
    row = session.scalars(query).first()
    if row is None or row.token != claim.token or row.state != "running":
        raise Superseded(claim.render_id)
    return row
