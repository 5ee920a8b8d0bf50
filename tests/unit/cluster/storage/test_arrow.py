"""The pyarrow file system that Ray Train uses reaches the same files as Storage."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from pyarrow.fs import FileSystem

from cluster.storage.arrow import arrow_filesystem
from cluster.storage.open import open_storage
from tests.support.s3 import S3Server


def test_a_folder_and_a_bucket(s3_uri: str, tmp_path: Path) -> None:
    for uri in (str(tmp_path), s3_uri):
        path, files = arrow_filesystem(uri)
        files.create_dir(f"{path}/step_000001", recursive=True)
        _write(files, f"{path}/step_000001/state", b"weights")
        assert open_storage(uri).read("step_000001/state") == b"weights"


def test_writes_survive_an_outage(s3_uri: str, s3_server: S3Server) -> None:
    path, files = arrow_filesystem(s3_uri)
    s3_server.stop()
    with ThreadPoolExecutor(1) as pool:
        written = pool.submit(_write, files, f"{path}/state", b"weights")
        time.sleep(1)
        assert not written.done()
        s3_server.start()
        written.result(60)
    assert open_storage(s3_uri).read("state") == b"weights"


def _write(files: FileSystem, path: str, data: bytes) -> None:
    with files.open_output_stream(path) as file:
        file.write(data)
