"""Database tables of the render service."""

from __future__ import annotations

from typing import Any

from sqlalchemy import JSON, ForeignKey, Index, UniqueConstraint
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

# States of a render that has not ended.
OPEN = ("queued", "running")
ENDED = ("done", "failed", "cancelled")


class Base(DeclarativeBase):
    """Declarative base of all tables."""

    type_annotation_map = {dict[str, Any]: JSON, list[dict[str, Any]]: JSON}  # noqa: RUF012 - SQLAlchemy requires this form


class RenderRow(Base):
    """A requested render. Ids ascend with time. Times are seconds since 1970 by the database's clock.

    `webhook` is called after the end, next at `webhook_next_s` (None once it was delivered or given up).
    The current worker holds `token` until `lease_until_s`; `attempt` counts the leases.
    """

    __tablename__ = "renders"
    __table_args__ = (
        UniqueConstraint("key_id", "idempotency_key"),
        Index("renders_by_state", "state", "id"),
        Index("renders_by_key", "key_id", "id"),
    )

    id: Mapped[str] = mapped_column(primary_key=True)
    key_id: Mapped[str]
    idempotency_key: Mapped[str | None]
    request_sha256: Mapped[str]
    request: Mapped[dict[str, Any]]
    dancer: Mapped[dict[str, Any]]
    fingerprint: Mapped[str] = mapped_column(index=True)
    source: Mapped[str] = mapped_column(index=True)
    state: Mapped[str]
    created_s: Mapped[float]
    ended_s: Mapped[float | None]
    attempt: Mapped[int] = mapped_column(default=0)
    token: Mapped[str | None]
    lease_until_s: Mapped[float | None]
    stage: Mapped[str | None]
    frames_done: Mapped[int] = mapped_column(default=0)
    frames_total: Mapped[int] = mapped_column(default=0)
    plan: Mapped[dict[str, Any] | None]
    timings_s: Mapped[dict[str, Any] | None]
    problem: Mapped[dict[str, Any] | None]
    result: Mapped[dict[str, Any] | None]
    webhook: Mapped[str | None]
    webhook_tries: Mapped[int] = mapped_column(default=0)
    webhook_next_s: Mapped[float | None]


class ChunkRow(Base):
    """A stored chunk, in its current version: widening a seam replaces it."""

    __tablename__ = "chunks"

    render_id: Mapped[str] = mapped_column(ForeignKey("renders.id", ondelete="CASCADE"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)
    stored: Mapped[dict[str, Any]]


class FrameRow(Base):
    """The newest frame of a chunk that is being rendered, as JPEG. Only for display."""

    __tablename__ = "frames"

    render_id: Mapped[str] = mapped_column(ForeignKey("renders.id", ondelete="CASCADE"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)
    frame: Mapped[int]
    picture: Mapped[bytes]


class EventRow(Base):
    """An event for the watchers of a render; numbers ascend."""

    __tablename__ = "events"
    __table_args__ = (Index("events_by_render", "render_id", "number"),)

    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    render_id: Mapped[str] = mapped_column(ForeignKey("renders.id", ondelete="CASCADE"))
    kind: Mapped[str]
    data: Mapped[dict[str, Any]]


class ResultRow(Base):
    """The result of a fingerprint; there is only one."""

    __tablename__ = "results"

    fingerprint: Mapped[str] = mapped_column(primary_key=True)
    result: Mapped[dict[str, Any]]
    render_id: Mapped[str]
