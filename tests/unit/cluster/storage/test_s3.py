"""S3Storage: keys, outages, lost responses, interrupted downloads."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
import urllib3
from minio import Minio
from urllib3.exceptions import ProtocolError

from cluster.storage.base import Storage, StorageDamaged, StorageUnavailable
from cluster.storage.open import open_storage
from tests.support.s3 import S3Server

MB = 1 << 20


def test_wrong_keys_fail_at_once(s3_uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    open_storage(s3_uri).write("x", b"")
    for key in ("AWS_SECRET_ACCESS_KEY", "AWS_ACCESS_KEY_ID"):
        monkeypatch.setenv(key, "wrong")
        for act in _acts(open_storage(s3_uri), tmp_path):
            started_s = time.monotonic()
            with pytest.raises(StorageUnavailable, match=r"is refused .*127.0.0.1"):
                act()
            assert time.monotonic() - started_s < 2


def test_missing_keys_fail_at_once(s3_uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(StorageUnavailable, match="AWS_SECRET_ACCESS_KEY"):
        open_storage(s3_uri)


def test_no_such_bucket(s3_uri: str, tmp_path: Path) -> None:
    store = open_storage("s3://no-such-bucket/x")
    started_s = time.monotonic()
    for act in (lambda: store.stat("x"), lambda: store.read("x"), lambda: [*store.list()]):
        with pytest.raises(StorageUnavailable, match=r"no such bucket|NoSuchBucket"):
            act()
    with pytest.raises(StorageUnavailable, match="NoSuchBucket"):
        store.download("x", tmp_path / "x")
    assert time.monotonic() - started_s < 2


def test_damaged_objects_are_refused(s3_uri: str, s3_server: S3Server, tmp_path: Path) -> None:
    store = open_storage(s3_uri)
    (tmp_path / "sent").write_bytes(b"whole")
    store.upload(tmp_path / "sent", "a")
    store.write("b", b"whole")
    store.write("c", b"whole", if_absent=True)
    bucket, _, prefix = s3_uri.removeprefix("s3://").partition("/")
    for name in "abc":
        metadata = _minio(s3_server).stat_object(bucket, f"{prefix}/{name}").metadata or {}
        assert metadata["x-amz-meta-sha256"] == sha256(b"whole").hexdigest()
        damaged = {"sha256": metadata["x-amz-meta-sha256"]}
        _minio(s3_server).put_object(bucket, f"{prefix}/{name}", BytesIO(b"Whole"), 5, metadata=damaged)
        with pytest.raises(StorageDamaged, match="does not match its checksum"):
            store.read(name)
        with pytest.raises(StorageDamaged, match=name):
            store.download(name, tmp_path / "got")
    assert [path.name for path in tmp_path.iterdir()] == ["sent"]
    # Objects of other tools have no checksum.
    _minio(s3_server).put_object(bucket, f"{prefix}/a", BytesIO(b"theirs"), 6)
    assert store.read("a") == b"theirs"


def _minio(server: S3Server) -> Minio:
    keys = server.environment["AWS_ACCESS_KEY_ID"], server.environment["AWS_SECRET_ACCESS_KEY"]
    return Minio(server.endpoint.removeprefix("http://"), *keys, secure=False)


def _acts(store: Storage, tmp_path: Path) -> Iterator[Callable[[], object]]:
    (tmp_path / "sent").write_bytes(b"1")
    yield lambda: store.stat("x")
    yield lambda: store.read("x")
    yield lambda: [*store.list()]
    yield lambda: store.write("x", b"")
    yield lambda: store.write("y", b"", if_absent=True)
    yield lambda: store.upload(tmp_path / "sent", "x")
    yield lambda: store.download("x", tmp_path / "got")
    yield lambda: store.delete("x")


def _all_fail(acts: Iterable[Callable[[], object]]) -> list[tuple[str, float]]:
    def fail(act: Callable[[], object]) -> tuple[str, float]:
        started_s = time.monotonic()
        with pytest.raises(StorageUnavailable) as caught:
            act()
        return str(caught.value), time.monotonic() - started_s

    with ThreadPoolExecutor() as pool:
        return [*pool.map(fail, acts)]


def test_refused_connections_are_retried_for_the_budget(
    s3_uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:9")
    store = open_storage(s3_uri, retry_budget_s=0.5)
    for outcome, took_s in _all_fail(_acts(store, tmp_path)):
        assert re.search(r"127.0.0.1:9 within 0.5 s; got .*refused", outcome)
        assert 0.5 <= took_s < 1.5


def test_a_hanging_server_fails_within_the_budget(
    s3_server: S3Server, s3_uri: str, tmp_path: Path, big_file: Path
) -> None:
    store = open_storage(s3_uri, retry_budget_s=1)
    s3_server.pause()
    try:
        for outcome, took_s in _all_fail([*_acts(store, tmp_path), lambda: store.upload(big_file, "big")]):
            assert "within 1 s" in outcome
            assert 1 <= took_s < 3
    finally:
        s3_server.resume()
    # The server answers the pending requests first, which may take longer than a second.
    patient = open_storage(s3_uri)
    patient.write("z", b"back")
    assert patient.read("z") == b"back"
    assert patient.stat("big") is None


def test_an_outage_is_survived(s3_server: S3Server, bucket: Storage, tmp_path: Path, big_file: Path) -> None:
    for name in ("x", "a/1", "a/2"):
        bucket.write(name, b"1")
    names = bucket.list()
    s3_server.stop()
    with ThreadPoolExecutor() as pool:
        outcomes = [
            pool.submit(bucket.read, "x"),
            pool.submit(bucket.write, "new", b"2", if_absent=True),
            pool.submit(bucket.upload, big_file, "film"),
            pool.submit(lambda: [e.name for e in names]),
        ]
        time.sleep(0.5)
        assert not any(outcome.done() for outcome in outcomes)
        s3_server.start()
        assert [outcome.result() for outcome in outcomes][:3] == [b"1", True, None]
    assert {"a/1", "a/2", "x"} <= {*outcomes[3].result()}
    bucket.download("film", tmp_path / "film")
    assert (tmp_path / "film").read_bytes() == big_file.read_bytes()


def test_a_first_writer_wins_although_its_response_is_lost(bucket: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    real, requests = urllib3.PoolManager.urlopen, []

    def urlopen(self: urllib3.PoolManager, method: str, *rest: Any, **options: Any) -> urllib3.BaseHTTPResponse:
        response = real(self, method, *rest, **options)
        requests.append(method)
        if len(requests) == 1:
            raise ProtocolError("lost")
        return response

    monkeypatch.setattr(urllib3.PoolManager, "urlopen", urlopen)
    assert bucket.write("x", b"1", if_absent=True)
    assert requests == ["PUT", "PUT", "HEAD"]
    assert not bucket.write("x", b"1", if_absent=True)


@pytest.mark.parametrize("status", [500, 503, 429])
def test_requests_to_a_busy_server_are_retried(bucket: Storage, monkeypatch: pytest.MonkeyPatch, status: int) -> None:
    bucket.write("x", b"1")
    real, requests = urllib3.PoolManager.urlopen, []

    def urlopen(self: urllib3.PoolManager, *rest: Any, **options: Any) -> urllib3.BaseHTTPResponse:
        response = real(self, *rest, **options)
        requests.append(response)
        if len(requests) == 1:
            response.status = status
        return response

    monkeypatch.setattr(urllib3.PoolManager, "urlopen", urlopen)
    assert bucket.read("x") == b"1"
    assert len(requests) == 2


@pytest.mark.parametrize("changes", [False, True])
def test_an_interrupted_download_continues(
    bucket: Storage, tmp_path: Path, big_file: Path, monkeypatch: pytest.MonkeyPatch, changes: bool
) -> None:
    """The connection breaks after every 6 MB."""
    bucket.upload(big_file, "film")
    (other := tmp_path / "other").write_bytes(big_file.read_bytes()[::-1])
    real, sizes = urllib3.HTTPResponse.stream, []

    def stream(self: urllib3.HTTPResponse, amt: int, **options: Any) -> Iterator[bytes]:
        sizes.append(int(self.headers["Content-Length"]))
        for i, chunk in enumerate(real(self, amt, **options)):
            if i == 6:
                if changes and len(sizes) == 1:
                    bucket.upload(other, "film")
                raise ProtocolError("interrupted")
            yield chunk

    monkeypatch.setattr(urllib3.HTTPResponse, "stream", stream)
    bucket.download("film", tmp_path / "got")
    assert (tmp_path / "got").read_bytes() == (other if changes else big_file).read_bytes()
    if not changes:
        assert sizes == [20 * MB + 3 - i * 6 * MB for i in range(4)]
