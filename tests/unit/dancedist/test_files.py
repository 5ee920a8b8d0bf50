from __future__ import annotations

import pickle
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from dancedist.errors import Notice, VideoTooLarge
from dancedist.files import only_one, published, published_folder, remove_leftovers


def broken_off(path: Path, folder: bool) -> None:
    with (published_folder if folder else published)(path) as partial:
        (partial / "a" if folder else partial).write_text("half")
        raise RuntimeError


@pytest.mark.parametrize("folder", [False, True])
def test_half_a_thing_is_nothing(tmp_path: Path, folder: bool) -> None:
    with pytest.raises(RuntimeError):
        broken_off(tmp_path / "out", folder)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_gives_way_only_to_a_whole_one(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with published_folder(out) as partial:
        (partial / "a").write_text("first")
    with pytest.raises(RuntimeError):
        broken_off(out, folder=True)
    assert (out / "a").read_text() == "first"
    with published_folder(out) as partial:
        (partial / "b").write_text("second")
    assert [p.name for p in out.iterdir()] == ["b"]


def test_a_file_is_replaced(tmp_path: Path) -> None:
    for text in ("one", "two"):
        with published(tmp_path / "f.txt") as partial:
            assert partial.suffix == ".txt"
            partial.write_text(text)
    assert (tmp_path / "f.txt").read_text() == "two"


def test_errors_read_well_and_travel_between_processes() -> None:
    error = VideoTooLarge("frames are too large", file="v.mp4", expected="at most 9", got="16000x8000")
    assert str(error) == "v.mp4: frames are too large (expected at most 9; got 16000x8000)"
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again), again.slug) == (VideoTooLarge, str(error), "video-too-large")
    assert str(Notice("x", "gone", 3)) == "frame 3: gone"


def test_a_killed_process_leaves_nothing_that_stays(tmp_path: Path) -> None:
    out = tmp_path / "out"
    for name in (".123.partial.out", ".77.old.out", ".5.partial.other", "out"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a").write_text("half")
    remove_leftovers(out)
    assert sorted(p.name for p in tmp_path.iterdir()) == [".5.partial.other", "out"]


def test_only_one_at_a_time(tmp_path: Path) -> None:
    """Threads with a file of their own each are to the lock what processes are."""
    inside, most = 0, []

    def work(_: int) -> None:
        nonlocal inside
        with only_one(tmp_path / "new" / ".lock"):
            inside += 1
            most.append(inside)
            time.sleep(0.01)
            inside -= 1

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(8)))
    assert most == [1] * 8
