"""Find and remove everything that the render service stores about a dancer."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from pydantic import ValidationError
from sqlalchemy.exc import SQLAlchemyError

from cluster.core.settings import SharedSettings
from cluster.privacy.eraser import RendersUnreached
from cluster.storage.open import open_storage
from cluster.tracking.registry import model_name
from dancedist.errors import DancedistError
from serving.db.engine import Database
from serving.db.records import Records
from serving.ops.retention import remove_render
from serving.settings import Settings
from serving.workers import paths

# Reasons why the records cannot be reached: settings, a missing driver, the database, the storage.
_UNREACHED = (ValidationError, ImportError, SQLAlchemyError, sqlite3.Error, OSError, DancedistError)


class RenderEraser:
    """See cluster.privacy.eraser.Eraser. Raises RendersUnreached, and StorageUnavailable while it looks for records."""

    def __init__(self, storage_uri: str) -> None:
        self._storage_uri = storage_uri

    def find(self, dancer: str) -> dict[str, list[str]]:
        """See Eraser: ids of renders, files of their films and chunks, their uploads."""
        if not self._has_records():
            return {}
        with self._database(dancer) as (database, settings):
            return forget_renders(Records(database), settings, dancer, remove=False)

    def erase(self, dancer: str) -> None:
        """See Eraser."""
        if not self._has_records():
            return
        with self._database(dancer) as (database, settings):
            forget_renders(Records(database), settings, dancer, remove=True)
            database.purge()

    def _has_records(self) -> bool:
        """Whether there is a database. Raises RendersUnreached if there are renders but no DANCEDIST_DATABASE."""
        if SharedSettings().database:
            return True
        store = open_storage(self._storage_uri)
        if not self._storage_uri.startswith("s3://"):
            return (Path(store.uri) / "renders.db").exists()
        if next(store.list("renders/"), None) is not None:
            expected = "DANCEDIST_DATABASE set as for the render service"
            raise RendersUnreached("has renders, but their database is unknown", file=store.uri, expected=expected)
        return False

    @contextmanager
    def _database(self, dancer: str) -> Iterator[tuple[Database, Settings]]:
        try:
            settings = Settings(storage=self._storage_uri)
            database = Database(settings.database)
            try:
                yield database, settings
            finally:
                database.close()
        except _UNREACHED as error:
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise RendersUnreached("the records of renders do not answer", file=dancer, got=reason) from error


def forget_renders(records: Records, settings: Settings, dancer: str, *, remove: bool) -> dict[str, list[str]]:
    """List a dancer's renders, the files of their films and chunks, and their uploads; with `remove`, delete them.

    Renders that have not ended are cancelled first. An upload that another render uses stays.
    Safe to interrupt and repeat: a record is deleted after the files that it refers to.
    """
    rows = records.of_dancer(model_name(dancer))
    works, uploads = paths.works(settings.storage), paths.sources(settings.storage)
    if remove:
        for row in rows:
            records.cancel(row.id)
    fingerprints = sorted({row.fingerprint for row in rows})
    files = [f"{works.uri}/{entry.name}" for fingerprint in fingerprints for entry in works.list(f"{fingerprint}/")]
    uploaded = sorted({row.source for row in rows if row.source.startswith(f"{uploads.uri}/")})
    if remove:
        for row in rows:
            remove_render(records, settings, row)
        for source in uploaded:
            records.remove_unused_source(source, partial(uploads.delete, source.removeprefix(f"{uploads.uri}/")))
    return {"renders": [row.id for row in rows], "films and chunks": files, "sources of renders": uploaded}
