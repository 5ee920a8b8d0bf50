"""The database that the records are in: SQLite for one machine, Postgres for several."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

from sqlalchemy import create_engine, event, insert, text
from sqlalchemy.orm import Session

from serving.db.models import ENDED, Base, EventRow, RenderRow

_PATIENCE_S = 30


class Database:
    """Sessions on a database URL; tables that lack are made. Serves several threads and processes."""

    def __init__(self, url: str) -> None:
        self._engine = create_engine(url, pool_pre_ping=True)
        if self._engine.dialect.name == "sqlite":
            event.listen(self._engine, "connect", _shared)
            event.listen(self._engine, "begin", _begin)
        # One of those that start together makes the tables.
        with self.writing() as session:
            alone(session)
            Base.metadata.create_all(session.connection())

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """Rows that are read stay usable after it."""
        with Session(self._engine, expire_on_commit=False) as session:
            yield session

    @contextmanager
    def writing(self) -> Iterator[Session]:
        """All of it is done, or nothing."""
        with Session(self._engine, expire_on_commit=False) as session, session.begin():
            # Else of two that read first and write then SQLite would refuse one.
            session.connection(execution_options={"begin": "IMMEDIATE"})
            yield session

    def purge(self) -> None:
        """Let nothing of what was deleted stay in an SQLite file; Postgres does so in its own time (VACUUM)."""
        if self._engine.dialect.name == "sqlite":
            # Not in a transaction, which every other connection begins with.
            with closing(self._engine.raw_connection()) as connection:
                for command in ("VACUUM", "PRAGMA wal_checkpoint(TRUNCATE)"):
                    connection.cursor().execute(command)

    def close(self) -> None:
        """Leave it."""
        self._engine.dispose()


def now_s(session: Session) -> float:
    """Seconds since 1970, by the database's clock: those of several machines differ."""
    sqlite = session.get_bind().dialect.name == "sqlite"
    clock = "(julianday('now') - 2440587.5) * 86400" if sqlite else "extract(epoch from clock_timestamp())"
    return float(session.scalar(text(f"SELECT {clock}")) or 0)


def alone(session: Session) -> None:
    """Let nobody else count or make what this transaction counts or makes, until it ends."""
    if session.get_bind().dialect.name == "postgresql":
        # In SQLite whoever writes is alone.
        session.execute(text("SELECT pg_advisory_xact_lock(7206)"))


def end(session: Session, row: RenderRow, state: str, **columns: Any) -> None:
    """Bring a render to its end; whoever works on it is superseded."""
    assert state in ENDED
    row.state, row.ended_s, row.token, row.lease_until_s = state, now_s(session), None, None
    for name, value in columns.items():
        setattr(row, name, value)
    row.webhook_next_s = None if row.webhook is None else row.ended_s
    tell(session, row.id, state, {k: v for k, v in columns.items() if k != "result"})


def tell(session: Session, render_id: str, kind: str, data: dict[str, Any]) -> None:
    """An event, for those who watch."""
    session.execute(insert(EventRow).values(render_id=render_id, kind=kind, data=data))


def _shared(connection: Any, _: object) -> None:
    """Let several processes of this machine read while one writes."""
    connection.isolation_level = None
    for setting in (f"busy_timeout = {_PATIENCE_S * 1000}", "synchronous = NORMAL", "foreign_keys = ON"):
        connection.execute(f"PRAGMA {setting}")
    _write_ahead(connection, time.monotonic() + _PATIENCE_S)


def _write_ahead(connection: Any, until_s: float) -> None:
    """Of several that meet at a file without a log SQLite refuses some at once, however patient they are."""
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > until_s:
                raise
            time.sleep(0.01)


def _begin(connection: Any) -> None:
    connection.exec_driver_sql(f"BEGIN {connection.get_execution_options().get('begin', 'DEFERRED')}")
