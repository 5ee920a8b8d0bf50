from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest

from cluster.core.error_records import VideoChanged
from cluster.storage import download_cache
from cluster.storage.base import Storage, StorageMissing, open_storage
from cluster.storage.download_cache import fetched, held, sweep
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


def test_a_file_on_a_disk_stays_where_it_is(tmp_path: Path) -> None:
    assert fetched(*put(open_storage(str(tmp_path)), "a.mp4", b"film"), 1) == tmp_path / "a.mp4"


def test_what_changed_or_went_is_told(tmp_path: Path, bucket: Storage) -> None:
    for store in (open_storage(str(tmp_path)), bucket):
        listed = put(store, "a.mp4", b"film")
        put(store, "a.mp4", b"another")
        with pytest.raises(VideoChanged):
            fetched(*listed, 1)
        store.delete("a.mp4")
        with pytest.raises(StorageMissing):
            fetched(*listed, 1)


def test_an_object_is_fetched_once_for_all(bucket: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    listed = put(bucket, "a.mp4", b"film" * 1000)
    downloads: list[str] = []
    download = type(bucket).download

    def counted(self: Storage, name: str, path: Path) -> None:
        downloads.append(name)
        time.sleep(0.1)
        download(self, name, path)

    monkeypatch.setattr(type(bucket), "download", counted)
    found: list[Path] = []
    threads = [threading.Thread(target=lambda: found.append(fetched(*listed, 1))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(downloads) == 1
    assert {p.read_bytes() for p in found} == {b"film" * 1000}
    assert found[0].suffix == ".mp4"


def test_room_is_made_of_what_was_not_used_for_long(bucket: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download_cache, "IN_USE_S", 50)
    paths = [fetched(*put(bucket, f"{i}.mp4", bytes([i]) * 1000), 3500e-9) for i in range(3)]
    for path, age_s in zip(paths, (100, 300, 10), strict=True):
        os.utime(path, (time.time() - age_s,) * 2)
    new = fetched(*put(bucket, "3.mp4", b"3" * 1000), 3500e-9)
    assert [p.exists() for p in (*paths, new)] == [True, False, True, True]
    # What is in use stays, though there is no room.
    os.utime(paths[0])
    fetched(*put(bucket, "4.mp4", b"4" * 3000), 3500e-9)
    assert [p.exists() for p in (paths[0], paths[2], new)] == [True, True, True]


def test_what_nobody_holds_any_more_is_swept_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download_cache, "LEFT_S", 50)
    in_use, left, old = (tmp_path / name for name in ("in-use", "left", "old"))
    for folder in (left, old):
        with held(folder):
            (folder / "pictures").touch()
    with held(in_use), held(in_use):
        for folder in (in_use, old):
            os.utime(folder / ".held", (time.time() - 100,) * 2)
        sweep(tmp_path)
        assert [folder.exists() for folder in (in_use, left, old)] == [True, True, False]
    sweep(tmp_path)
    assert not in_use.exists()
    with held(in_use):
        sweep(tmp_path)
        assert in_use.exists()
