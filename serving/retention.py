"""What has ended long ago is removed: records, chunks, films, sources that nobody needs any more."""

from __future__ import annotations

from serving import places
from serving.records import Records
from serving.settings import Settings


def sweep(records: Records, settings: Settings) -> int:
    """Remove renders that ended `retention_s` ago, with all that no other render needs; how many.

    Files go first: what is broken off here is found again.
    """
    old, sources = records.ended_before(settings.retention_s), places.sources(settings.storage)
    for row in old:
        if records.alone_with(row, "fingerprint"):
            store = places.work(settings.storage, row.fingerprint)
            for entry in store.list():
                store.delete(entry.name)
        if row.source.startswith(f"{sources.uri}/") and records.alone_with(row, "source"):
            sources.delete(row.source.removeprefix(f"{sources.uri}/"))
        records.forget(row.id)
    return len(old)
