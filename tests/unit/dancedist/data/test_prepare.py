from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch

from dancedist.data.crops import View
from dancedist.data.frame_cache import frame_bytes
from dancedist.data.pairs import TargetData
from dancedist.data.prepare import prepare
from dancedist.errors import FootageUnfit, RecipeInvalid
from dancedist.pose.sequence import PoseSequence
from dancedist.pose.topology import HALPE26
from dancedist.recipe.schema import DataRecipe, FigureRecipe, Recipe
from dancedist.skeleton.window import full_window
from dancedist.video.concat import open_videos
from dancedist.video.decode import read_frames
from dancedist.video.encode import write_film
from dancedist.video.letterbox import letterbox
from dancedist.video.probe import probe
from tests.unit.conftest import FRAMES, SIZE, moving_poses


def make_video(path: Path) -> Path:
    rng = np.random.default_rng(0)
    frames = (np.full((SIZE[1], SIZE[0], 3), rng.integers(60, 200), np.uint8) for _ in range(FRAMES))
    write_film(path, frames, Fraction(25), crf=16, x264_preset="ultrafast")
    return path


def test_the_cache_is_filled_once_per_key(tmp_path: Path) -> None:
    video = probe(make_video(tmp_path / "v.mp4"), Recipe().video)
    data = DataRecipe(gap_s=0.1, min_train_frames=8)
    placed, advanced = letterbox(SIZE, SIZE[0] * SIZE[1], 8), []

    def prepared(key: str) -> TargetData:
        return prepare(video, moving_poses(), placed, data, FigureRecipe(), tmp_path / "cache", key, advanced.append)

    first = prepared("a")
    assert sum(advanced) == FRAMES
    again = prepared("a")
    assert sum(advanced) == FRAMES
    assert all(np.array_equal(first.picture(t), again.picture(t)) for t in range(FRAMES))
    prepared("b")
    assert sum(advanced) == 2 * FRAMES
    assert sorted(p.name for p in tmp_path.iterdir()) == [".cache.lock", "cache", "v.mp4"]


def test_too_few_pairs_are_refused(tmp_path: Path) -> None:
    video = probe(make_video(tmp_path / "v.mp4"), Recipe().video)
    with pytest.raises(FootageUnfit, match="at least 48 pairs"):
        prepare(video, moving_poses(), letterbox(SIZE, 3072, 8), DataRecipe(), FigureRecipe(), tmp_path / "c", "k")


def make_ramp_video(path: Path, size: tuple[int, int]) -> Path:
    """Red is x, green is y: a crop shows its own position."""
    y, x = np.indices((size[1], size[0]))
    frame = np.stack([x * 255 / size[0], y * 255 / size[1], np.full(x.shape, 90)], axis=2).astype(np.uint8)
    write_film(path, (frame for _ in range(FRAMES)), Fraction(25), crf=1, x264_preset="ultrafast")
    return path


@pytest.fixture(scope="module")
def with_faces(tmp_path_factory: pytest.TempPathFactory) -> TargetData:
    """Frames four times as large as the pictures; no nose in frames 20 to 29."""
    folder, size = tmp_path_factory.mktemp("with_faces"), (4 * SIZE[0], 4 * SIZE[1])
    video = probe(make_ramp_video(folder / "v.mp4", size), Recipe().video)
    poses = moving_poses(size=size)
    poses.score[20:30, HALPE26.index["nose"]] = 0
    data = DataRecipe(gap_s=0.1, min_train_frames=8)
    return prepare(
        video, poses, letterbox(size, SIZE[0] * SIZE[1], 8), data, FigureRecipe(), folder / "c", "k", face_px=48
    )


def test_faces_are_cropped_around_the_nose_from_the_original_frames(with_faces: TargetData) -> None:
    assert with_faces.faces is not None
    assert with_faces.faces.shape == (FRAMES, 48, 48, 3)
    nose = (with_faces.poses.xy[:, HALPE26.index["nose"]] + 0.5) * 4 - 0.5
    for t in (0, 11, 40):
        x, y = (with_faces.face(t)[23:25, 23:25, c].mean() * side * 4 / 255 for c, side in enumerate(SIZE))
        assert (x, y) == pytest.approx(nose[t], abs=2.5)
    assert not any(with_faces.face(t).any() for t in range(20, 30))


def test_face_pairs_are_those_whose_last_frame_has_a_face(with_faces: TargetData) -> None:
    assert with_faces.face_seen.tolist() == [not 20 <= t < 30 for t in range(FRAMES)]
    assert with_faces.face_pairs(range(15, 35)).tolist() == [16, 17, 18, 19, 30, 31, 32, 33, 34]
    assert with_faces.pairs(range(15, 35)).tolist() == list(range(16, 35))


def test_face_boxes_are_in_px_of_the_returned_picture(with_faces: TargetData) -> None:
    half = with_faces.halved()
    for data in (with_faces, half):
        assert data.face_boxes is not None
        middle = (data.face_boxes[:, :2] + data.face_boxes[:, 2:]) / 2
        nose = data.poses.xy[:, HALPE26.index["nose"]]
        assert np.abs((middle - nose)[data.face_seen]).max() < 1e-3
    assert np.abs(half.face_figure(5).astype(int) - with_faces.face_figure(5)).mean() < 0.1
    assert np.array_equal(half.face(5), with_faces.face(5))


def test_other_poses_or_another_face_size_make_another_cache(tmp_path: Path) -> None:
    video = probe(make_video(tmp_path / "v.mp4"), Recipe().video)
    data, advanced = DataRecipe(gap_s=0.1, min_train_frames=8), []

    def prepared(poses: PoseSequence, face_px: int) -> TargetData:
        placed = letterbox(SIZE, SIZE[0] * SIZE[1], 8)
        return prepare(
            video, poses, placed, data, FigureRecipe(), tmp_path / "c", "k", advanced.append, face_px=face_px
        )

    poses = moving_poses()
    shifted = replace(poses, xy=poses.xy + 1)
    requests = [(poses, 0), (poses, 16), (poses, 16), (shifted, 16), (shifted, 24), (shifted, 0), (poses, 0)]
    filled = []
    for sequence, face_px in requests:
        before = len(advanced)
        target = prepared(sequence, face_px)
        assert (target.faces is None) == (face_px == 0)
        filled.append(len(advanced) > before)
    assert filled == [True, True, False, True, True, True, False]


def test_a_small_cache_holds_selected_frames_and_a_notice_says_so(tmp_path: Path) -> None:
    video = probe(make_ramp_video(tmp_path / "v.mp4", SIZE), Recipe().video)
    poses, placed = moving_poses(), letterbox(SIZE, SIZE[0] * SIZE[1], 8)
    each = frame_bytes(placed, 16)
    data = DataRecipe(gap_s=0.1, min_train_frames=8)

    def prepared(frames: float, shift: float = 0.0) -> tuple[TargetData, int]:
        advanced: list[int] = []
        short = data.model_copy(update={"cache_gb": frames * each / 1e9})
        sequence = replace(poses, xy=poses.xy + np.float32(shift))
        cache, figure = tmp_path / "c", FigureRecipe()
        target = prepare(video, sequence, placed, short, figure, cache, "k", advanced.append, face_px=16)
        return target, sum(advanced)

    whole, _ = prepared(FRAMES + 0.5)
    assert whole.notices == ()
    short, advanced = prepared(30.5)
    assert advanced == FRAMES
    assert [n.slug for n in short.notices] == ["cache-short"]
    assert "of 60 frames" in str(short.notices[0])
    usable = np.flatnonzero(short.usable)
    assert len(short.pictures) == len(usable) <= 30
    assert len(short.pictures) >= 28
    assert len(short.pairs(short.split.validation)) >= 1
    assert len(short.pairs(short.split.train)) >= data.min_train_frames
    assert set(usable) <= {*short.split.train, *short.split.validation}
    assert short.split == whole.split
    assert np.array_equal(short.train_frames(), whole.train_frames())
    for t in usable.tolist():
        assert np.array_equal(short.picture(t), whole.picture(t))
        assert np.array_equal(short.face(t), whole.face(t))
        assert np.array_equal(short.halved().picture(t), whole.halved().picture(t))
    t = short.face_pairs(short.split.train)[:2]
    view = View(full_window(SIZE))
    assert all(torch.equal(a, b) for a, b in zip(short.batch(t, [view] * 2), whole.batch(t, [view] * 2), strict=True))
    with pytest.raises(AssertionError, match="is not in the cache"):
        short.picture(short.split.test.start)
    assert prepared(30.5)[1] == 0
    assert prepared(28.5)[1] == FRAMES
    assert prepared(28.5, shift=1.0)[1] == FRAMES, "other poses select other frames"


def test_a_cache_too_small_to_train_on_is_refused_before_decoding(tmp_path: Path) -> None:
    video = probe(make_video(tmp_path / "v.mp4"), Recipe().video)
    data = DataRecipe(gap_s=0.1, min_train_frames=8, cache_gb=1e-9)
    with pytest.raises(RecipeInvalid, match=r"data\.cache_gb"):
        prepare(video, moving_poses(), letterbox(SIZE, 3072, 8), data, FigureRecipe(), tmp_path / "c", "k")
    assert [p.name for p in tmp_path.iterdir()] == ["v.mp4"]


@pytest.mark.parametrize("short", [False, True])
def test_pairs_never_cross_from_one_video_to_the_next(tmp_path: Path, short: bool) -> None:
    video = open_videos([make_ramp_video(tmp_path / "a.mp4", SIZE), make_video(tmp_path / "b.mp4")], Recipe().video)
    placed = letterbox(SIZE, SIZE[0] * SIZE[1], 8)
    capacity = 100 if short else 1000
    data = DataRecipe(gap_s=0.1, min_train_frames=8, cache_gb=(capacity + 0.5) * frame_bytes(placed, 0) / 1e9)
    target = prepare(video, moving_poses(2 * FRAMES), placed, data, FigureRecipe(), tmp_path / "c", "k")
    assert target.cuts == (FRAMES,)
    pairs = target.pairs(target.split.train)
    assert target.split.train.stop > FRAMES + 10
    assert FRAMES not in pairs
    assert len(pairs) == len(target.split.train) - 2 or short
    assert np.array_equal(target.halved().pairs(target.split.train), pairs)
    frames = list(read_frames(video))
    for t in np.flatnonzero(target.usable)[::9].tolist():
        assert np.array_equal(target.picture(t), frames[t])
