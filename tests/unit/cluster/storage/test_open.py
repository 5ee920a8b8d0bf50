"""URIs of stores and of files in them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from cluster.core.session import SUBMITTED_JOB_VARIABLE
from cluster.storage.base import Storage, StorageUnavailable
from cluster.storage.open import durable_uri, open_storage, split_uri


@pytest.mark.parametrize("kind", ["folder", "bucket"])
def test_split_uri(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    store: Storage = open_storage(str(tmp_path)) if kind == "folder" else request.getfixturevalue("bucket")
    store.write("sub/film 1.mp4", b"1")
    parent, name = split_uri(f"{store.uri}/sub/film 1.mp4")
    assert (parent, name) == (f"{store.uri}/sub", "film 1.mp4")
    assert open_storage(parent).read(name) == b"1"


def test_file_uris(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "50% #1" / "a b.mp4"
    open_storage(path.parent.as_uri()).write("a b.mp4", b"1")
    assert path.read_bytes() == b"1"
    assert split_uri(path.as_uri()) == split_uri(str(path)) == (str(path.parent), "a b.mp4")
    monkeypatch.chdir(path.parent)
    assert split_uri("a b.mp4") == (str(path.parent), "a b.mp4")
    assert open_storage(".").read("a b.mp4") == b"1"


@pytest.mark.parametrize("uri", ["gs://bucket/x", "http://host/x", "file://host/x", "s3:bucket"])
def test_other_uris_are_refused(uri: str) -> None:
    with pytest.raises(StorageUnavailable, match="is not a storage URI"):
        open_storage(uri)


@pytest.mark.parametrize("uri", ["s3://bucket/x", "/films/x", "file:///films/x"])
def test_uris_that_all_nodes_reach_are_durable_in_a_submitted_job(uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SUBMITTED_JOB_VARIABLE, "{}")
    assert durable_uri(uri) == uri


def test_a_relative_path_is_durable_except_in_a_submitted_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(SUBMITTED_JOB_VARIABLE, raising=False)
    monkeypatch.chdir(tmp_path)
    assert durable_uri("runs") == str(tmp_path / "runs")
    monkeypatch.setenv(SUBMITTED_JOB_VARIABLE, "{}")
    with pytest.raises(StorageUnavailable, match="temporary copy"):
        durable_uri("runs")


def test_opening_a_folder_imports_neither_ray_nor_minio() -> None:
    program = (
        "import sys, cluster.storage.open as o; o.open_storage('/x'); sys.exit(bool({'ray', 'minio'} & {*sys.modules}))"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
