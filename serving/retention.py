"""What has ended long ago is removed: records, chunks, films, and sources that nobody needs any more."""

from __future__ import annotations

from functools import partial

from cluster.storage import Storage
from serving import places
from serving.records import Records
from serving.settings import Settings


def sweep(records: Records, settings: Settings) -> int:
    """Remove renders that ended `retention_s` ago, with all that no other render needs; how many.

    It may be broken off anywhere: no record is left of a film that is gone, and the rest is found the next time.
    """
    old = records.ended_before(settings.retention_s)
    for row in old:
        records.unpublish(row.fingerprint)
        records.forget(row.id, partial(_empty, places.work(settings.storage, row.fingerprint)))
    # Those of requests that were refused too.
    sources = places.sources(settings.storage)
    for entry in sources.list():
        records.unneeded(f"{sources.uri}/{entry.name}", partial(sources.delete, entry.name))
    return len(old)


def _empty(store: Storage) -> None:
    for entry in store.list():
        store.delete(entry.name)
