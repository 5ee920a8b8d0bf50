"""A store in the form that Ray Train takes: a path and a pyarrow file system."""

from __future__ import annotations

from pyarrow.fs import AwsStandardS3RetryStrategy, FileSystem, LocalFileSystem, S3FileSystem

from cluster.core.settings import S3Settings
from cluster.storage.open import open_storage

# With doubling pauses this lasts about as long as RETRY_BUDGET_S. Ray Train's own 3 attempts are used up at once.
ATTEMPTS = 9


def arrow_filesystem(uri: str) -> tuple[str, FileSystem]:
    """Path and file system of a URI, configured as in open_storage. Keys are read by the process that uses it."""
    store = open_storage(uri)
    if not store.uri.startswith("s3://"):
        return store.uri, LocalFileSystem()
    s3 = S3Settings()
    scheme, _, host = s3.endpoint.rpartition("://")
    options = {} if s3.is_amazon else {"endpoint_override": host, "scheme": scheme}
    return store.uri.removeprefix("s3://"), S3FileSystem(
        region=s3.region_name, retry_strategy=AwsStandardS3RetryStrategy(max_attempts=ATTEMPTS), **options
    )
