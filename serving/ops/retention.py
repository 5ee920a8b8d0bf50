"""What has ended long ago is removed: records, chunks, films, and sources that nobody needs any more."""

from __future__ import annotations

from functools import partial

from serving.db.models import RenderRow
from serving.db.records import Records
from serving.settings import Settings
from serving.workers import paths


def sweep(records: Records, settings: Settings) -> int:
    """Remove renders that ended `retention_s` ago, with all that no other render needs; how many.

    It may be broken off anywhere: no record is left of a film that is gone, and the rest is found the next time.
    """
    old = records.ended_before(settings.retention_s)
    for row in old:
        remove(records, settings, row)
    # What a replica was still at when its render was removed.
    works = paths.works(settings.storage)
    for fingerprint in {entry.name.partition("/")[0] for entry in works.list()}:
        records.unknown(fingerprint, partial(works.delete_folder, fingerprint))
    # Those of requests that were refused too.
    sources = paths.sources(settings.storage)
    for entry in sources.list():
        records.unneeded(f"{sources.uri}/{entry.name}", partial(sources.delete, entry.name))
    return len(old)


def remove(records: Records, settings: Settings, row: RenderRow) -> None:
    """All that is known of a render that has ended goes, with the files that no other has."""
    records.unpublish(row.fingerprint)
    records.forget(row.id, partial(paths.works(settings.storage).delete_folder, row.fingerprint))
