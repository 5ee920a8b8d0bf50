"""The database of the records: SQLite for one machine, Postgres for several."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

from sqlalchemy import create_engine, event, insert, text
from sqlalchemy.orm import Session

from serving.db.models import ENDED, Base, EventRow, RenderRow

_LOCK_TIMEOUT_S = 30


class Database:
    """Sessions on a database URL. Creates missing tables. Safe for several threads and processes."""

    def __init__(self, url: str) -> None:
        self._engine = create_engine(url, pool_pre_ping=True)
        if self._engine.dialect.name == "sqlite":
            event.listen(self._engine, "connect", _configure_sqlite)
            event.listen(self._engine, "begin", _begin_sqlite)
        # If several processes start together, one creates the tables.
        with self.writing() as session:
            global_lock(session)
            Base.metadata.create_all(session.connection())

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """A session for reading; its rows stay usable after it is closed."""
        with Session(self._engine, expire_on_commit=False) as session:
            yield session

    @contextmanager
    def writing(self) -> Iterator[Session]:
        """A session in one transaction: committed as a whole or not at all."""
        with Session(self._engine, expire_on_commit=False) as session, session.begin():
            # If two transactions read first and then write, SQLite refuses one of them: take the write lock at once.
            session.connection(execution_options={"begin": "IMMEDIATE"})
            yield session

    def purge(self) -> None:
        """Erase deleted rows from an SQLite file; Postgres does this in the background (VACUUM)."""
        if self._engine.dialect.name == "sqlite":
            # VACUUM does not work in a transaction: use a raw connection.
            with closing(self._engine.raw_connection()) as connection:
                for command in ("VACUUM", "PRAGMA wal_checkpoint(TRUNCATE)"):
                    connection.cursor().execute(command)

    def close(self) -> None:
        """Close all connections."""
        self._engine.dispose()


def now_s(session: Session) -> float:
    """Seconds since 1970 by the database's clock, because the clocks of machines differ."""
    sqlite = session.get_bind().dialect.name == "sqlite"
    clock = "(julianday('now') - 2440587.5) * 86400" if sqlite else "extract(epoch from clock_timestamp())"
    return float(session.scalar(text(f"SELECT {clock}")) or 0)


def global_lock(session: Session) -> None:
    """Serialize with other transactions that take this lock, until this transaction ends.

    Used where rows are counted first and then added or removed.
    """
    if session.get_bind().dialect.name == "postgresql":
        # SQLite has a single writer anyway.
        session.execute(text("SELECT pg_advisory_xact_lock(7206)"))


def finish_render(session: Session, row: RenderRow, state: str, **columns: Any) -> None:
    """Put a render into an end state, which invalidates the lease of its worker."""
    assert state in ENDED
    row.state, row.ended_s, row.token, row.lease_until_s = state, now_s(session), None, None
    for name, value in columns.items():
        setattr(row, name, value)
    row.webhook_next_s = None if row.webhook is None else row.ended_s
    add_event(session, row.id, state, {k: v for k, v in columns.items() if k != "result"})


def add_event(session: Session, render_id: str, kind: str, data: dict[str, Any]) -> None:
    """Add an event for the watchers of a render."""
    session.execute(insert(EventRow).values(render_id=render_id, kind=kind, data=data))


def _configure_sqlite(connection: Any, _: object) -> None:
    """Let processes of this machine read while one writes."""
    connection.isolation_level = None
    for setting in (f"busy_timeout = {_LOCK_TIMEOUT_S * 1000}", "synchronous = NORMAL", "foreign_keys = ON"):
        connection.execute(f"PRAGMA {setting}")
    _enable_wal(connection, time.monotonic() + _LOCK_TIMEOUT_S)


def _enable_wal(connection: Any, deadline_s: float) -> None:
    """Switch to write-ahead logging; retry, as SQLite ignores busy_timeout if several processes do so at once."""
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > deadline_s:
                raise
            time.sleep(0.01)


def _begin_sqlite(connection: Any) -> None:
    connection.exec_driver_sql(f"BEGIN {connection.get_execution_options().get('begin', 'DEFERRED')}")
