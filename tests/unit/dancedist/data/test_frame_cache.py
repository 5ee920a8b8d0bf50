from __future__ import annotations

import pickle
import signal
import subprocess
import sys
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from dancedist.data import frame_cache
from dancedist.data.frame_cache import MappedRows, fill_cache, frame_bytes, open_cache
from dancedist.errors import DiskFull
from dancedist.pose.sequence import write_poses
from dancedist.recipe.schema import Recipe
from dancedist.skeleton.face import face_boxes
from dancedist.video.decode import read_frames
from dancedist.video.encode import write_film
from dancedist.video.letterbox import letterbox
from dancedist.video.probe import Video, probe
from tests.unit.conftest import FRAMES, SIZE, moving_poses

PLACED = letterbox(SIZE, SIZE[0] * SIZE[1], 8)
# A process that prepares a target, and prints a line for every frame that it decodes.
WORKER = """
import sys, time
from pathlib import Path
from dancedist.pose.sequence import read_poses
from dancedist.data.prepare import prepare
from dancedist.recipe.schema import DataRecipe, FigureRecipe, Recipe
from dancedist.video.letterbox import letterbox
from dancedist.video.probe import probe

film, poses, folder, slow_s = Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]), float(sys.argv[4])

def advance(frames):
    print("decoded", frames, flush=True)
    time.sleep(slow_s)

video = probe(film, Recipe().video)
placed = letterbox((video.width, video.height), video.width * video.height, 8)
data = prepare(video, read_poses(poses), placed, DataRecipe(gap_s=0.1, min_train_frames=8), FigureRecipe(), folder,
               "k", advance)
print("sum", sum(int(data.picture(t).sum()) for t in range(len(data.poses))), flush=True)
"""


def make_video(path: Path, size: tuple[int, int] = SIZE, frames: int = FRAMES) -> Video:
    rng = np.random.default_rng(0)

    def pictures() -> Iterator[NDArray[np.uint8]]:
        for t in range(frames):
            frame = np.full((size[1], size[0], 3), 40 + 2 * (t % 100), np.uint8)
            frame[:: 1 + rng.integers(4)] //= 2
            yield frame

    write_film(path, pictures(), Fraction(25), crf=10, x264_preset="ultrafast")
    return probe(path, Recipe().video)


@pytest.fixture
def video(tmp_path: Path) -> Video:
    return make_video(tmp_path / "v.mp4")


@pytest.mark.parametrize("requested", [list(range(FRAMES)), [3, 4, 10, 11, 12, 59], [40, 41]])
def test_the_requested_frames_are_cached(video: Video, tmp_path: Path, requested: list[int]) -> None:
    advanced: list[int] = []
    fill_cache(tmp_path / "c", "k", video, np.array(requested), PLACED, None, 0, advanced.append)
    cached = open_cache(tmp_path / "c", "k")
    assert cached is not None
    assert cached.frames.tolist() == requested
    assert cached.decoded.all()
    assert sum(advanced) == FRAMES
    frames = list(read_frames(video))
    for row, t in enumerate(requested):
        frame = frames[t]
        assert frame is not None
        assert np.array_equal(cached.pictures[row], PLACED.to_picture(frame))
    size = (tmp_path / "c" / "pictures.npy").stat().st_size
    assert size == 128 + len(requested) * frame_bytes(PLACED, 0)


def test_rows_are_mapped_one_at_a_time_and_stay_readable_after_replacement(video: Video, tmp_path: Path) -> None:
    fill_cache(tmp_path / "c", "k", video, np.arange(FRAMES), PLACED)
    rows, expected = MappedRows(tmp_path / "c" / "pictures.npy"), np.load(tmp_path / "c" / "pictures.npy")
    unpickled = pickle.loads(pickle.dumps(rows))
    fill_cache(tmp_path / "c", "other", video, np.arange(2), PLACED)
    assert rows.shape == expected.shape
    assert len(rows) == FRAMES
    assert all(np.array_equal(rows[i], unpickled[i]) and np.array_equal(rows[i], expected[i]) for i in range(FRAMES))
    assert not rows[0].flags.writeable
    with pytest.raises(AssertionError):
        rows[-1]


def test_a_cache_with_another_key_is_not_opened(video: Video, tmp_path: Path) -> None:
    fill_cache(tmp_path / "c", "k", video, np.arange(4), PLACED)
    assert open_cache(tmp_path / "c", "other") is None
    assert open_cache(tmp_path / "nothing", "k") is None


def test_a_frame_that_does_not_decode_is_marked(video: Video, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def with_frame_5_undecodable(film: Video) -> Iterator[NDArray[np.uint8] | None]:
        return (None if t == 5 else frame for t, frame in enumerate(read_frames(film)))

    monkeypatch.setattr(frame_cache, "read_frames", with_frame_5_undecodable)
    fill_cache(tmp_path / "c", "k", video, np.arange(FRAMES), PLACED, face_boxes(moving_poses()), 16)
    cached = open_cache(tmp_path / "c", "k")
    assert cached is not None
    assert np.flatnonzero(~cached.decoded).tolist() == [5]
    assert cached.faces is not None
    assert not cached.pictures[5].any()
    assert not cached.faces[5].any()
    assert cached.faces[6].any()


def test_a_full_disk_is_reported_before_decoding(video: Video, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    advanced: list[int] = []
    usage = type("Usage", (), {"free": FRAMES * frame_bytes(PLACED, 16) - 1})
    monkeypatch.setattr(frame_cache.shutil, "disk_usage", lambda _: usage)
    with pytest.raises(DiskFull, match=r"data\.cache_gb"):
        fill_cache(
            tmp_path / "c", "k", video, np.arange(FRAMES), PLACED, face_boxes(moving_poses()), 16, advanced.append
        )
    assert advanced == []
    assert [p.name for p in tmp_path.iterdir()] == ["v.mp4"]


def test_a_disk_that_fills_up_is_reported_and_nothing_is_left(video: Video, tmp_path: Path) -> None:
    advanced: list[int] = []

    def fill_disk(frames: int) -> None:
        advanced.append(frames)
        if len(advanced) == 7:
            raise OSError(28, "No space left on device")

    with pytest.raises(DiskFull, match="less by now"):
        fill_cache(tmp_path / "c", "k", video, np.arange(FRAMES), PLACED, None, 0, fill_disk)
    assert [p.name for p in tmp_path.iterdir()] == ["v.mp4"]


class Workers:
    def __init__(self, video: Video, folder: Path) -> None:
        self.args = [str(video.path), str(folder / "poses.parquet"), str(folder / "c")]
        write_poses(moving_poses(), folder / "poses.parquet")

    def start(self, slow_s: float) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", WORKER, *self.args, str(slow_s)]
        return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_only_one_of_several_processes_decodes(video: Video, tmp_path: Path) -> None:
    workers = Workers(video, tmp_path)
    running = [workers.start(0.01) for _ in range(3)]
    output = [process.communicate(timeout=120)[0].splitlines() for process in running]
    assert [process.returncode for process in running] == [0, 0, 0]
    assert sorted(len(lines) - 1 for lines in output) == [0, 0, FRAMES]
    assert len({lines[-1] for lines in output}) == 1


def test_a_killed_process_leaves_no_incomplete_cache(video: Video, tmp_path: Path) -> None:
    workers = Workers(video, tmp_path)
    first = workers.start(0.2)
    assert first.stdout is not None
    for _ in range(3):
        assert first.stdout.readline().startswith("decoded")
    waiting = workers.start(0.0)
    first.send_signal(signal.SIGKILL)
    first.communicate(timeout=60)
    output = waiting.communicate(timeout=120)[0].splitlines()
    assert waiting.returncode == 0
    assert len(output) == FRAMES + 1
    assert sorted(p.name for p in tmp_path.iterdir()) == [".c.lock", "c", "poses.parquet", "v.mp4"]
