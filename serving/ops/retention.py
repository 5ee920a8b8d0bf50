"""Retention: remove the records, chunks, films and unused sources of renders that ended long ago."""

from __future__ import annotations

from functools import partial

from serving.db.models import RenderRow
from serving.db.records import Records
from serving.settings import Settings
from serving.workers import paths


def sweep(records: Records, settings: Settings) -> int:
    """Remove renders that ended `retention_s` ago, with all files that no other render needs. Returns their number.

    Safe to interrupt: no result remains of a film that is deleted, and the next sweep removes the rest.
    """
    old = records.ended_before(settings.retention_s)
    for row in old:
        remove_render(records, settings, row)
    # Files that a replica wrote after its render was removed.
    works = paths.works(settings.storage)
    for fingerprint in {entry.name.partition("/")[0] for entry in works.list()}:
        records.remove_unused_fingerprint(fingerprint, partial(works.delete_folder, fingerprint))
    # Unused uploads, which includes those of refused requests.
    sources = paths.sources(settings.storage)
    for entry in sources.list():
        records.remove_unused_source(f"{sources.uri}/{entry.name}", partial(sources.delete, entry.name))
    return len(old)


def remove_render(records: Records, settings: Settings, row: RenderRow) -> None:
    """Remove the records of an ended render, and the files that no other render shares."""
    records.unpublish(row.fingerprint)
    records.forget(row.id, partial(paths.works(settings.storage).delete_folder, row.fingerprint))
