"""URIs of stores and files: open the store, split off a file name, check that results outlive the job."""

from __future__ import annotations

import os
import re
from pathlib import Path
from urllib.parse import unquote

from cluster.storage.base import RETRY_BUDGET_S, NameInvalid, Storage, StorageUnavailable, checked_name


def open_storage(uri: str, retry_budget_s: float = RETRY_BUDGET_S) -> Storage:
    """Store of a `file://` or `s3://bucket/prefix` URI; a plain path is a folder. Makes no request yet.

    Raises StorageUnavailable for other URIs and missing S3 keys.
    """
    if uri.startswith("s3://"):
        # Importing minio takes 0.2 s, in each of many processes.
        from cluster.storage.s3 import S3Storage

        return S3Storage(uri, retry_budget_s)
    from cluster.storage.local import LocalStorage

    return LocalStorage(str(_local_path(uri)), retry_budget_s)


def split_uri(uri: str) -> tuple[str, str]:
    """Split a file's URI into the URI of its store and its name there. Raises NameInvalid, StorageUnavailable."""
    if uri.startswith("s3://"):
        store, _, name = uri.rpartition("/")
        if store == "s3:/":
            raise NameInvalid("does not name an object", file=uri, expected="s3://bucket/name")
    else:
        path = _local_path(uri)
        store, name = str(path.parent), path.name
    return store, checked_name(name)


def durable_uri(uri: str) -> str:
    """Absolute URI of a store that outlives the job. In a submitted job, a relative path raises StorageUnavailable."""
    if uri.startswith("s3://"):
        return uri
    # Importing Ray takes seconds and 150 MB, in each of many processes.
    from cluster.core.session import in_submitted_job

    if "://" not in uri and not os.path.isabs(uri) and in_submitted_job():
        raise StorageUnavailable(
            "is a relative path, which would be in Ray's temporary copy of the repository",
            file=uri,
            expected="s3://bucket/prefix or an absolute path that all nodes share",
        )
    return uri if "://" in uri else str(Path(uri).absolute())


def _local_path(uri: str) -> Path:
    kind = re.match(r"([a-z][a-z0-9+.-]*):", uri, re.IGNORECASE)
    if not kind:
        # Absolute: another process that opens it may run in another folder.
        return Path(uri).absolute()
    path = unquote(uri.removeprefix("file://").removeprefix("localhost"))
    if not uri.startswith("file://") or not path.startswith("/"):
        raise StorageUnavailable("is not a storage URI", file=uri, expected="s3://…, file:///… or a path", got=uri)
    return Path(path)
