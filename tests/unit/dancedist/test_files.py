from __future__ import annotations

import pickle
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from dancedist.errors import Notice, VideoTooLarge
from dancedist.files import atomic_write, atomic_write_folder, file_lock, remove_leftovers


def interrupted_write(path: Path, folder: bool) -> None:
    with (atomic_write_folder if folder else atomic_write)(path) as partial:
        (partial / "a" if folder else partial).write_text("half")
        raise RuntimeError


@pytest.mark.parametrize("folder", [False, True])
def test_an_interrupted_write_leaves_nothing(tmp_path: Path, folder: bool) -> None:
    with pytest.raises(RuntimeError):
        interrupted_write(tmp_path / "out", folder)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_is_replaced_only_by_a_complete_one(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with atomic_write_folder(out) as partial:
        (partial / "a").write_text("first")
    with pytest.raises(RuntimeError):
        interrupted_write(out, folder=True)
    assert (out / "a").read_text() == "first"
    with atomic_write_folder(out) as partial:
        (partial / "b").write_text("second")
    assert [p.name for p in out.iterdir()] == ["b"]


def test_a_file_is_replaced(tmp_path: Path) -> None:
    for text in ("one", "two"):
        with atomic_write(tmp_path / "f.txt") as partial:
            assert partial.suffix == ".txt"
            partial.write_text(text)
    assert (tmp_path / "f.txt").read_text() == "two"


def test_errors_are_one_line_and_can_be_pickled() -> None:
    error = VideoTooLarge("frames are too large", file="v.mp4", expected="at most 9", got="16000x8000")
    assert str(error) == "v.mp4: frames are too large (expected at most 9; got 16000x8000)"
    copied = pickle.loads(pickle.dumps(error))
    assert (type(copied), str(copied), copied.slug) == (VideoTooLarge, str(error), "video-too-large")
    assert str(Notice("x", "gone", 3)) == "frame 3: gone"


def test_leftovers_of_killed_processes_are_removed(tmp_path: Path) -> None:
    out = tmp_path / "out"
    for name in (".123.partial.out", ".77.old.out", ".5.partial.other", "out"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a").write_text("half")
    remove_leftovers(out)
    assert sorted(p.name for p in tmp_path.iterdir()) == [".5.partial.other", "out"]


def test_a_lock_has_one_holder_at_a_time(tmp_path: Path) -> None:
    """Threads that open the lock file by themselves behave like processes."""
    holders, counts = 0, []

    def work(_: int) -> None:
        nonlocal holders
        with file_lock(tmp_path / "new" / ".lock"):
            holders += 1
            counts.append(holders)
            time.sleep(0.01)
            holders -= 1

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(8)))
    assert counts == [1] * 8
