"""A store as Ray Train takes it: a path and a pyarrow file system."""

from __future__ import annotations

from pyarrow.fs import AwsStandardS3RetryStrategy, FileSystem, LocalFileSystem, S3FileSystem

from cluster.core.settings import S3
from cluster.storage.base import open_storage

# With pauses that double: about as patient as cluster.storage.base. The 3 of Ray Train's own are used up at once.
ATTEMPTS = 9


def arrow_filesystem(uri: str) -> tuple[str, FileSystem]:
    """Path and file system of a URI, by the same environment as open_storage; keys are read where it is used."""
    store = open_storage(uri)
    if not store.uri.startswith("s3://"):
        return store.uri, LocalFileSystem()
    s3 = S3()
    scheme, _, host = s3.endpoint.rpartition("://")
    options = {} if s3.is_amazon else {"endpoint_override": host, "scheme": scheme}
    return store.uri.removeprefix("s3://"), S3FileSystem(
        region=s3.region_name, retry_strategy=AwsStandardS3RetryStrategy(max_attempts=ATTEMPTS), **options
    )
