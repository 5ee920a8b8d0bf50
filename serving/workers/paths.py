"""Folders of renders in the storage."""

from __future__ import annotations

from cluster.storage.base import Storage
from cluster.storage.open import open_storage


def sources(storage_uri: str) -> Storage:
    """Uploaded sources, named by their content's checksum."""
    return open_storage(f"{open_storage(storage_uri).uri}/renders/sources")


def works(storage_uri: str) -> Storage:
    """The work folders of all fingerprints."""
    return open_storage(f"{open_storage(storage_uri).uri}/renders/work")


def work(storage_uri: str, fingerprint: str) -> Storage:
    """The work folder of a fingerprint: poses, chunks and films."""
    return open_storage(f"{open_storage(storage_uri).uri}/renders/work/{fingerprint}")
