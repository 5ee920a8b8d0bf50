"""LocalStorage: hidden and linked files, paths, a full disk."""

from __future__ import annotations

import resource
import signal
from pathlib import Path

import pytest

from cluster.storage.base import StorageUnavailable
from cluster.storage.open import open_storage

MB = 1 << 20


def test_partial_files_are_not_listed(tmp_path: Path) -> None:
    store = open_storage(str(tmp_path))
    store.write("x", b"")
    (tmp_path / ".12.partial.x").write_bytes(b"")
    (tmp_path / ".hidden").write_bytes(b"")
    assert [e.name for e in store.list()] == [".hidden", "x"]


def test_list_does_not_follow_linked_folders(tmp_path: Path) -> None:
    store = open_storage(str(tmp_path))
    store.write("x", b"")
    (tmp_path / "loop").symlink_to(tmp_path)
    assert [e.name for e in store.list()] == ["x"]


def test_file_in_the_way(tmp_path: Path) -> None:
    store = open_storage(str(tmp_path))
    store.write("file", b"")
    (tmp_path / "folder" / "sub").mkdir(parents=True)
    for act in (
        lambda: store.write("file/x", b""),
        lambda: store.write("folder", b""),
        lambda: store.write("folder", b"", if_absent=True),
        lambda: store.upload(tmp_path / "file", "folder/sub"),
        lambda: store.upload(tmp_path / "not there", "x"),
        lambda: store.download("file", tmp_path / "folder"),
        lambda: store.read("x" * 300),
    ):
        with pytest.raises(StorageUnavailable, match="cannot be used"):
            act()
    assert [p.name for p in tmp_path.rglob("*") if "partial" in p.name] == []


def test_full_disk(tmp_path: Path) -> None:
    store = open_storage(str(tmp_path))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (MB, before[1]))
    try:
        with pytest.raises(StorageUnavailable, match="File too large"):
            store.write("x", bytes(2 * MB))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)
    assert list(tmp_path.iterdir()) == []
