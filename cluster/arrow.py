"""A store as Ray Train takes it: a path and a pyarrow file system."""

from __future__ import annotations

import os

from pyarrow.fs import AwsStandardS3RetryStrategy, FileSystem, LocalFileSystem, S3FileSystem

from cluster.storage import open_storage

# With pauses that double: about as patient as cluster.storage. The 3 of Ray Train's own are used up at once.
ATTEMPTS = 9


def arrow_filesystem(uri: str) -> tuple[str, FileSystem]:
    """Path and file system of a URI, by the same environment as cluster.storage; keys are read where it is used."""
    store = open_storage(uri)
    if not store.uri.startswith("s3://"):
        return store.uri, LocalFileSystem()
    get = os.environ.get
    scheme, _, host = (get("AWS_ENDPOINT_URL_S3") or get("AWS_ENDPOINT_URL") or "").rstrip("/").rpartition("://")
    region = get("AWS_REGION") or get("AWS_DEFAULT_REGION") or ("us-east-1" if host else None)
    options = {"endpoint_override": host, "scheme": scheme} if host else {}
    return store.uri.removeprefix("s3://"), S3FileSystem(
        region=region, retry_strategy=AwsStandardS3RetryStrategy(max_attempts=ATTEMPTS), **options
    )
