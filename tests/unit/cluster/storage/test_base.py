"""The Storage interface: all tests run on a folder and on a real S3 server."""

from __future__ import annotations

import pickle
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from cluster.storage.base import RETRY_BUDGET_S, NameInvalid, Storage, StorageMissing
from cluster.storage.open import open_storage

MB = 1 << 20


@pytest.fixture(params=["folder", "bucket"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    if request.param == "folder":
        return open_storage(str(tmp_path / "store"))
    return open_storage(request.getfixturevalue("s3_uri"))


@pytest.mark.parametrize("data", [b"", b"x", bytes(range(256)) * 1000])
def test_round_trip(store: Storage, data: bytes) -> None:
    assert store.write("a/b.bin", data)
    assert store.read("a/b.bin") == data
    entry = store.stat("a/b.bin")
    assert entry is not None
    assert (entry.name, entry.size_bytes) == ("a/b.bin", len(data))


@pytest.mark.parametrize("name", ["with blank.mp4", "50%+1&a=b#c?d.mp4", "Tänzer 舞.mp4", "a\u202fb~'\"(1).mp4"])
def test_any_name(store: Storage, name: str) -> None:
    store.write(f"x/{name}", b"1")
    assert [e.name for e in store.list("x/")] == [f"x/{name}"]
    assert store.read(f"x/{name}") == b"1"


@pytest.mark.parametrize("size_bytes", [0, 1, None])
def test_uploads_and_downloads_preserve_files(
    store: Storage, tmp_path: Path, big_file: Path, size_bytes: int | None
) -> None:
    sent, got = tmp_path / "sent", tmp_path / "new" / "got"
    sent.write_bytes(big_file.read_bytes()[:size_bytes])
    store.upload(sent, "film.mp4")
    store.download("film.mp4", got)
    assert got.read_bytes() == sent.read_bytes()
    assert [p.name for p in got.parent.iterdir()] == ["got"]


SPARSE_MB = 40
STREAM = """
import resource, sys
from pathlib import Path
from cluster.storage.open import open_storage
store, path = open_storage(sys.argv[1]), Path(sys.argv[2])
store.write("small", b"")
before_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
store.upload(path, "film")
store.download("film", path.with_name("back"))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kib)
"""


def test_files_are_streamed(store: Storage, tmp_path: Path) -> None:
    path = tmp_path / "large"
    with path.open("wb") as file:
        file.truncate(SPARSE_MB * MB)
    done = subprocess.run([sys.executable, "-c", STREAM, store.uri, path], check=True, capture_output=True, text=True)
    assert int(done.stdout) < SPARSE_MB / 2 * 1024, f"{done.stdout} KiB"
    assert path.with_name("back").stat().st_size == SPARSE_MB * MB


def test_overwriting_changes_the_etag(store: Storage) -> None:
    etags = []
    for data in (b"one", b"two", b"three"):
        store.write("x", data)
        assert store.read("x") == data
        etags.append(store.stat("x").etag)  # type: ignore[union-attr]
    assert len(set(etags)) == 3
    assert store.stat("x").etag == etags[-1]  # type: ignore[union-attr]


NAMES = ["b/1", "a/1", "a/2/deep", "a/2/deeper/x", "ab"]


def test_list_is_in_order(store: Storage) -> None:
    for name in NAMES:
        store.write(name, name.encode())
    assert [(e.name, e.size_bytes) for e in store.list()] == [(n, len(n)) for n in sorted(NAMES)]
    for prefix in ("a", "a/", "a/2", "a/2/deep", "b/1", "c", "a/1/"):
        assert [e.name for e in store.list(prefix)] == sorted(n for n in NAMES if n.startswith(prefix))
    assert all(e == store.stat(e.name) for e in store.list())


def test_list_of_nothing(store: Storage) -> None:
    assert list(store.list()) == []


@pytest.mark.parametrize("page", [1, 3, 10])
def test_list_takes_pages(store: Storage, monkeypatch: pytest.MonkeyPatch, page: int) -> None:
    monkeypatch.setattr("cluster.storage.s3._PAGE", page)
    names = ["a-b.t", "a-b/x", "a.txt", "a/1", "a/2/deep", "a0", *(f"b/{i}" for i in range(4))]
    for name in names:
        store.write(name, b"")
    listed = [e.name for e in store.list()]
    assert sorted(listed) == names
    # SeaweedFS lists a/1 before a-b; other servers and folders do not.
    assert "s3:" in store.uri or listed == names


def test_one_of_many_concurrent_first_writers_wins(store: Storage) -> None:
    for turn in range(2):
        together = threading.Barrier(16)

        def race(i: int, name: str = f"lock{turn}", together: threading.Barrier = together) -> bool:
            together.wait()
            return store.write(name, b"%d" % i * 1000, if_absent=True)

        with ThreadPoolExecutor(16) as pool:
            won = [*pool.map(race, range(16))]
        assert sum(won) == 1
        assert store.read(f"lock{turn}") == b"%d" % won.index(True) * 1000
        assert not store.write(f"lock{turn}", b"later", if_absent=True)
    assert len([*store.list()]) == 2


def test_readers_see_complete_versions_only(store: Storage) -> None:
    size, done, seen = 200_000, threading.Event(), set()
    store.write("x", b"0" * size)

    def read() -> None:
        while not done.is_set():
            data = store.read("x")
            assert len(data) == size
            assert len(set(data)) == 1
            seen.add(data[:1])

    with ThreadPoolExecutor(1) as pool:
        reader = pool.submit(read)
        for i in range(40):
            store.write("x", b"%d" % (i % 10) * size)
        done.set()
        reader.result()
    assert len(seen) > 2


def test_threads_can_write_the_same_name(store: Storage) -> None:
    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(lambda i: store.write("x", b"%d" % i * 1000), range(24)))
    assert len(set(store.read("x"))) <= 2
    assert [e.name for e in store.list()] == ["x"]


def test_missing(store: Storage, tmp_path: Path) -> None:
    store.write("there/x", b"")
    for name in ("not", "there", "there/not"):
        assert store.stat(name) is None
        with pytest.raises(StorageMissing, match="does not exist"):
            store.read(name)
        with pytest.raises(StorageMissing):
            store.download(name, tmp_path / "out")
        store.delete(name)
    assert not (tmp_path / "out").exists()
    assert store.stat("there/x") is not None


def test_delete(store: Storage) -> None:
    store.write("x", b"")
    store.delete("x")
    assert store.stat("x") is None
    assert store.write("x", b"again", if_absent=True)


@pytest.mark.parametrize(
    "name",
    [
        "",
        "/",
        "/etc/passwd",
        "../x",
        "a/../../x",
        "a//b",
        "a/",
        ".",
        "a/./b",
        "a\\..\\b",
        "a\0b",
        "\ud800",
        ".1.partial.x",
    ],
)
def test_names_cannot_escape(store: Storage, tmp_path: Path, name: str) -> None:
    (tmp_path / "x").write_bytes(b"outside")
    for act in (
        lambda: store.write(name, b""),
        lambda: store.write(name, b"", if_absent=True),
        lambda: store.read(name),
        lambda: store.stat(name),
        lambda: store.delete(name),
        lambda: store.upload(tmp_path / "x", name),
        lambda: store.download(name, tmp_path / "out"),
    ):
        with pytest.raises(NameInvalid):
            act()
    if name and name != "a/":
        with pytest.raises(NameInvalid):
            list(store.list(name))
    assert (tmp_path / "x").read_bytes() == b"outside"


def test_pickles_as_its_uri(store: Storage) -> None:
    store.write("x", b"1")
    again = pickle.loads(pickle.dumps(store))
    assert again.read("x") == b"1"
    assert (again.uri, again.retry_budget_s) == (store.uri, RETRY_BUDGET_S)


KILLED = """
import sys
from pathlib import Path
import cluster.storage.s3, cluster.storage.local, shutil, os
from cluster.storage.open import open_storage
real = Path.open
def slow(self, mode="r", *rest):
    file = real(self, mode, *rest)
    if "x" in mode:
        class Last:
            def __getattr__(self, name): return getattr(file, name)
            def __enter__(self): return self
            def __exit__(self, *error): file.close()
            def write(self, data):
                file.write(data); file.flush(); print("started", flush=True); sys.stdin.read()
        return Last()
    return file
Path.open = slow
open_storage(sys.argv[1]).download("film", Path(sys.argv[2]))
"""


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_killed_download_leaves_nothing(store: Storage, tmp_path: Path, big_file: Path, how: signal.Signals) -> None:
    out = tmp_path / "out"
    store.upload(big_file, "film")
    command = [sys.executable, "-c", KILLED, store.uri, str(out / "film")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout
        assert process.stdout.readline() == b"started\n"
        process.send_signal(how)
        process.wait(10)
    assert list(open_storage(str(out)).list()) == []
    assert how == signal.SIGKILL or list(out.iterdir()) == []
