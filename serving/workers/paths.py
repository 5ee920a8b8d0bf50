"""Where in the storage lies what belongs to renders."""

from __future__ import annotations

from cluster.storage.base import Storage, open_storage


def sources(storage_uri: str) -> Storage:
    """Uploaded sources, by their content's checksum."""
    return open_storage(f"{open_storage(storage_uri).uri}/renders/sources")


def works(storage_uri: str) -> Storage:
    """A folder for every fingerprint."""
    return open_storage(f"{open_storage(storage_uri).uri}/renders/work")


def work(storage_uri: str, fingerprint: str) -> Storage:
    """Poses, chunks and films of a fingerprint."""
    return open_storage(f"{open_storage(storage_uri).uri}/renders/work/{fingerprint}")
