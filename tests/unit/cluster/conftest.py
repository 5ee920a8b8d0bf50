"""Fixtures of storage tests: a prefix of a bucket, and a large file."""

from __future__ import annotations

import hashlib
from pathlib import Path
from uuid import uuid4

import pytest

from cluster.storage.base import Storage
from cluster.storage.open import open_storage
from tests.support.s3 import S3Server

MB = 1 << 20


@pytest.fixture
def s3_uri(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> str:
    """A prefix of a bucket that no other test uses."""
    for key, value in s3_server.environment.items():
        monkeypatch.setenv(key, value)
    return s3_server.uri(f"tests/{uuid4().hex}")


@pytest.fixture
def bucket(s3_uri: str) -> Storage:
    return open_storage(s3_uri)


@pytest.fixture
def big_file(tmp_path: Path) -> Path:
    """A file of 20 MB and 3 bytes: several parts of an upload."""
    path = tmp_path / "big"
    path.write_bytes(b"".join(hashlib.sha256(bytes([i])).digest() * (MB // 32) for i in range(20)) + b"end")
    return path
