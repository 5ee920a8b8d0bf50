from __future__ import annotations

import hashlib
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from dancedist.errors import FootageUnfit, Notice
from dancedist.files import file_sha256
from dancedist.recipe.schema import VideoRecipe
from dancedist.video.concat import ConcatVideo, identity, open_videos, spans
from dancedist.video.decode import read_frame_at, read_frames
from dancedist.video.probe import Video
from tests.unit.dancedist.video.conftest import number_of, numbered, write_clip

LENGTHS = (20, 1, 33)


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Three clips with consecutively numbered frames."""
    folder, starts = tmp_path_factory.mktemp("videos"), (0, 20, 21)
    return [
        write_clip(folder / f"{i}.mp4", [numbered(start + t) for t in range(length)], options={"g": "8"})
        for i, (start, length) in enumerate(zip(starts, LENGTHS, strict=True))
    ]


@pytest.fixture(scope="module")
def combined(paths: list[Path]) -> ConcatVideo:
    video = open_videos(paths, VideoRecipe())
    assert isinstance(video, ConcatVideo)
    return video


def numbers(frames: object) -> list[int]:
    return [number_of(frame) for frame in frames]  # type: ignore[attr-defined]


def test_several_videos_are_read_as_one(combined: ConcatVideo, paths: list[Path]) -> None:
    assert (combined.width, combined.height, combined.fps, combined.frames) == (128, 96, Fraction(25), sum(LENGTHS))
    assert combined.path == paths[0]
    assert combined.cuts == (20, 21)
    assert combined.duration_s == pytest.approx(sum(LENGTHS) / 25)
    assert numbers(read_frames(combined)) == list(range(sum(LENGTHS)))


@pytest.mark.parametrize(
    ("start", "stop"), [(0, 0), (3, 9), (18, 23), (20, 21), (20, 20), (19, 54), (21, 40), (54, 54)]
)
def test_ranges_across_cuts(combined: ConcatVideo, start: int, stop: int) -> None:
    assert numbers(read_frames(combined, start, stop)) == list(range(start, stop))
    assert sum(end - first for _, first, end in spans(combined, start, stop)) == stop - start


@pytest.mark.parametrize("frames", [[], [0], [5, 19, 20, 21, 53], [20, 20, 30], [53]])
def test_frames_by_index_across_cuts(combined: ConcatVideo, frames: list[int]) -> None:
    assert numbers(read_frame_at(combined, frames)) == frames


@pytest.mark.parametrize("frames", [[3, 2], [54], [-1, 3]])
def test_frame_indices_must_be_ascending_and_in_range(combined: ConcatVideo, frames: list[int]) -> None:
    with pytest.raises(AssertionError):
        list(read_frame_at(combined, frames))


def test_one_video_is_not_concatenated(paths: list[Path]) -> None:
    video = open_videos(paths[:1], VideoRecipe())
    assert isinstance(video, Video)
    assert (video.parts, video.cuts) == ((video,), ())
    assert identity(paths[:1]) == ("0.mp4", file_sha256(paths[0]))


def test_identity_depends_on_contents_and_their_order(paths: list[Path], tmp_path: Path) -> None:
    name, sha256 = identity(paths)
    assert name == "0.mp4, 1.mp4, 2.mp4"
    assert sha256 == hashlib.sha256("".join(map(file_sha256, paths)).encode()).hexdigest()
    assert identity(paths[::-1])[1] != sha256
    assert identity(paths[:2])[1] != sha256
    copies = [tmp_path / f"copy{i}.mp4" for i in range(3)]
    for path, copy in zip(paths, copies, strict=True):
        copy.write_bytes(path.read_bytes())
    assert identity(copies)[1] == sha256
    with pytest.raises(FootageUnfit, match=r"copy1\.mp4.*named twice"):
        identity([*paths, copies[1]])


@pytest.mark.parametrize(("size", "fps"), [((64, 96), 25), ((96, 128), 25), ((128, 96), 30)])
def test_videos_of_other_size_or_rate_are_refused(
    paths: list[Path], tmp_path: Path, size: tuple[int, int], fps: int
) -> None:
    other = write_clip(tmp_path / "other.mp4", [np.zeros((size[1], size[0], 3), np.uint8)] * 9, fps=Fraction(fps))
    with pytest.raises(FootageUnfit) as caught:
        open_videos([*paths, other], VideoRecipe())
    assert "other.mp4" in str(caught.value)
    assert f"128x96 at 25.00 /s as {paths[0]}" in str(caught.value)
    assert f"{size[0]}x{size[1]} at {fps}.00 /s" in str(caught.value)


def test_almost_equal_rates_are_accepted(paths: list[Path], tmp_path: Path) -> None:
    other = write_clip(tmp_path / "other.mp4", 9, fps=Fraction(25_000, 1001))
    assert open_videos([paths[0], other], VideoRecipe()).fps == 25


def test_notices_name_their_video_and_the_frame(tmp_path: Path, paths: list[Path]) -> None:
    truncated = write_clip(tmp_path / "cut.mkv", 60)
    truncated.write_bytes(truncated.read_bytes()[: truncated.stat().st_size * 6 // 10])
    video = open_videos([paths[0], truncated], VideoRecipe())
    alone = open_videos([truncated], VideoRecipe())
    (notice,) = video.notices
    assert notice == Notice("cut-off", f"cut.mkv: {alone.notices[0].message}", 20 + alone.frames)
