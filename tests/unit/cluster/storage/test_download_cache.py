from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest

from cluster.core.error_records import VideoChanged
from cluster.storage import download_cache
from cluster.storage.base import Storage, StorageMissing
from cluster.storage.download_cache import fetch_cached, pinned, sweep
from cluster.storage.open import open_storage
from tests.support.s3 import S3Server


@pytest.fixture
def bucket(s3_server: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Storage:
    for name, value in s3_server.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("DANCEDIST_CACHE", str(tmp_path / "cache"))
    return open_storage(s3_server.uri(f"cache/{tmp_path.name}"))


def put(store: Storage, name: str, data: bytes) -> tuple[str, int, str]:
    store.write(name, data)
    entry = store.stat(name)
    assert entry is not None
    return f"{store.uri}/{name}", entry.size_bytes, entry.etag


def test_a_file_on_disk_is_used_in_place(tmp_path: Path) -> None:
    assert fetch_cached(*put(open_storage(str(tmp_path)), "a.mp4", b"film"), 1) == tmp_path / "a.mp4"


def test_changed_and_missing_videos_raise(tmp_path: Path, bucket: Storage) -> None:
    for store in (open_storage(str(tmp_path)), bucket):
        listed = put(store, "a.mp4", b"film")
        put(store, "a.mp4", b"another")
        with pytest.raises(VideoChanged):
            fetch_cached(*listed, 1)
        store.delete("a.mp4")
        with pytest.raises(StorageMissing):
            fetch_cached(*listed, 1)


def test_an_object_is_downloaded_once_for_all_threads(bucket: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    listed = put(bucket, "a.mp4", b"film" * 1000)
    downloads: list[str] = []
    download = type(bucket).download

    def counted(self: Storage, name: str, path: Path) -> None:
        downloads.append(name)
        time.sleep(0.1)
        download(self, name, path)

    monkeypatch.setattr(type(bucket), "download", counted)
    paths: list[Path] = []
    threads = [threading.Thread(target=lambda: paths.append(fetch_cached(*listed, 1))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(downloads) == 1
    assert {p.read_bytes() for p in paths} == {b"film" * 1000}
    assert paths[0].suffix == ".mp4"


def test_the_least_recently_used_videos_are_evicted(bucket: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download_cache, "IN_USE_S", 50)
    paths = [fetch_cached(*put(bucket, f"{i}.mp4", bytes([i]) * 1000), 3500e-9) for i in range(3)]
    for path, age_s in zip(paths, (100, 300, 10), strict=True):
        os.utime(path, (time.time() - age_s,) * 2)
    new = fetch_cached(*put(bucket, "3.mp4", b"3" * 1000), 3500e-9)
    assert [p.exists() for p in (*paths, new)] == [True, False, True, True]
    # Files in use stay, even beyond the size limit.
    os.utime(paths[0])
    fetch_cached(*put(bucket, "4.mp4", b"4" * 3000), 3500e-9)
    assert [p.exists() for p in (paths[0], paths[2], new)] == [True, True, True]


def test_folders_that_nobody_pins_are_removed_after_a_while(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download_cache, "KEEP_UNPINNED_S", 50)
    in_use, recent, old = (tmp_path / name for name in ("in-use", "recent", "old"))
    for folder in (recent, old):
        with pinned(folder):
            (folder / "pictures").touch()
    with pinned(in_use), pinned(in_use):
        for folder in (in_use, old):
            os.utime(folder / ".held", (time.time() - 100,) * 2)
        sweep(tmp_path)
        assert [folder.exists() for folder in (in_use, recent, old)] == [True, True, False]
    sweep(tmp_path)
    assert not in_use.exists()
    with pinned(in_use):
        sweep(tmp_path)
        assert in_use.exists()
