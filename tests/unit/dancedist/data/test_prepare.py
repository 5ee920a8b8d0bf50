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
from dancedist.recipe import DataRecipe, FigureRecipe, Recipe
from dancedist.skeleton.window import whole as whole_window
from dancedist.video.concat import open_footage
from dancedist.video.decode import read_frames
from dancedist.video.encode import write_film
from dancedist.video.letterbox import fit
from dancedist.video.probe import probe
from tests.unit.conftest import FRAMES, SIZE, moving_poses


def filmed(path: Path) -> Path:
    rng = np.random.default_rng(0)
    frames = (np.full((SIZE[1], SIZE[0], 3), rng.integers(60, 200), np.uint8) for _ in range(FRAMES))
    write_film(path, frames, Fraction(25), crf=16, speed="ultrafast")
    return path


def test_the_cache_is_made_once_and_again_for_another_key(tmp_path: Path) -> None:
    video = probe(filmed(tmp_path / "v.mp4"), Recipe().video)
    data = DataRecipe(gap_s=0.1, min_train_frames=8)
    placed, told = fit(SIZE, SIZE[0] * SIZE[1], 8), []

    def made(key: str) -> TargetData:
        return prepare(video, moving_poses(), placed, data, FigureRecipe(), tmp_path / "cache", key, told.append)

    first = made("a")
    assert sum(told) == FRAMES
    again = made("a")
    assert sum(told) == FRAMES
    assert all(np.array_equal(first.picture(t), again.picture(t)) for t in range(FRAMES))
    made("b")
    assert sum(told) == 2 * FRAMES
    assert sorted(p.name for p in tmp_path.iterdir()) == [".cache.lock", "cache", "v.mp4"]


def test_too_little_to_train_on_is_refused(tmp_path: Path) -> None:
    video = probe(filmed(tmp_path / "v.mp4"), Recipe().video)
    with pytest.raises(FootageUnfit, match="at least 48 pairs"):
        prepare(video, moving_poses(), fit(SIZE, 3072, 8), DataRecipe(), FigureRecipe(), tmp_path / "c", "k")


def filmed_ramp(path: Path, size: tuple[int, int]) -> Path:
    """Red tells x, green tells y: a crop says where it was cut."""
    y, x = np.indices((size[1], size[0]))
    frame = np.stack([x * 255 / size[0], y * 255 / size[1], np.full(x.shape, 90)], axis=2).astype(np.uint8)
    write_film(path, (frame for _ in range(FRAMES)), Fraction(25), crf=1, speed="ultrafast")
    return path


@pytest.fixture(scope="module")
def faced(tmp_path_factory: pytest.TempPathFactory) -> TargetData:
    """Frames four times as large as the pictures; no nose in frames 20 to 29."""
    folder, size = tmp_path_factory.mktemp("faced"), (4 * SIZE[0], 4 * SIZE[1])
    video = probe(filmed_ramp(folder / "v.mp4", size), Recipe().video)
    poses = moving_poses(size=size)
    poses.score[20:30, HALPE26.index["nose"]] = 0
    data = DataRecipe(gap_s=0.1, min_train_frames=8)
    return prepare(video, poses, fit(size, SIZE[0] * SIZE[1], 8), data, FigureRecipe(), folder / "c", "k", face_px=48)


def test_faces_are_cut_round_the_nose_from_frames_as_they_were_filmed(faced: TargetData) -> None:
    assert faced.faces is not None
    assert faced.faces.shape == (FRAMES, 48, 48, 3)
    nose = (faced.poses.xy[:, HALPE26.index["nose"]] + 0.5) * 4 - 0.5
    for t in (0, 11, 40):
        x, y = (faced.face(t)[23:25, 23:25, c].mean() * side * 4 / 255 for c, side in enumerate(SIZE))
        assert (x, y) == pytest.approx(nose[t], abs=2.5)
    assert not any(faced.face(t).any() for t in range(20, 30))


def test_faces_have_pairs_of_their_own(faced: TargetData) -> None:
    assert faced.face_seen.tolist() == [not 20 <= t < 30 for t in range(FRAMES)]
    assert faced.face_pairs(range(15, 35)).tolist() == [16, 17, 18, 19, 30, 31, 32, 33, 34]
    assert faced.pairs(range(15, 35)).tolist() == list(range(16, 35))


def test_face_boxes_are_in_px_of_the_picture_as_it_is_seen(faced: TargetData) -> None:
    half = faced.halved()
    for data in (faced, half):
        assert data.face_boxes is not None
        middle = (data.face_boxes[:, :2] + data.face_boxes[:, 2:]) / 2
        nose = data.poses.xy[:, HALPE26.index["nose"]]
        assert np.abs((middle - nose)[data.face_seen]).max() < 1e-3
    assert np.abs(half.face_figure(5).astype(int) - faced.face_figure(5)).mean() < 0.1
    assert np.array_equal(half.face(5), faced.face(5))


def test_another_pose_or_size_of_face_makes_another_cache(tmp_path: Path) -> None:
    video = probe(filmed(tmp_path / "v.mp4"), Recipe().video)
    data, told = DataRecipe(gap_s=0.1, min_train_frames=8), []

    def made(poses: PoseSequence, face_px: int) -> TargetData:
        placed = fit(SIZE, SIZE[0] * SIZE[1], 8)
        return prepare(video, poses, placed, data, FigureRecipe(), tmp_path / "c", "k", told.append, face_px=face_px)

    poses = moving_poses()
    moved = replace(poses, xy=poses.xy + 1)
    asked = [(poses, 0), (poses, 16), (poses, 16), (moved, 16), (moved, 24), (moved, 0), (poses, 0)]
    filled = []
    for sequence, face_px in asked:
        before = len(told)
        target = made(sequence, face_px)
        assert (target.faces is None) == (face_px == 0)
        filled.append(len(told) > before)
    assert filled == [True, True, False, True, True, True, False]


def test_a_short_cache_keeps_the_best_spread_frames_and_says_so(tmp_path: Path) -> None:
    video = probe(filmed_ramp(tmp_path / "v.mp4", SIZE), Recipe().video)
    poses, placed = moving_poses(), fit(SIZE, SIZE[0] * SIZE[1], 8)
    each = frame_bytes(placed, 16)
    data = DataRecipe(gap_s=0.1, min_train_frames=8)

    def made(frames: float, moved: float = 0.0) -> tuple[TargetData, int]:
        told: list[int] = []
        short = data.model_copy(update={"cache_gb": frames * each / 1e9})
        sequence = replace(poses, xy=poses.xy + np.float32(moved))
        cache = tmp_path / "c"
        return prepare(video, sequence, placed, short, FigureRecipe(), cache, "k", told.append, face_px=16), sum(told)

    whole, _ = made(FRAMES + 0.5)
    assert whole.notices == ()
    short, told = made(30.5)
    assert told == FRAMES
    assert [n.slug for n in short.notices] == ["cache-short"]
    assert "of 60 frames" in str(short.notices[0])
    kept = np.flatnonzero(short.usable)
    assert len(short.pictures) == len(kept) <= 30
    assert len(short.pictures) >= 28
    assert len(short.pairs(short.split.validation)) >= 1
    assert len(short.pairs(short.split.train)) >= data.min_train_frames
    assert set(kept) <= {*short.split.train, *short.split.validation}
    assert short.split == whole.split
    assert np.array_equal(short.train_frames(), whole.train_frames())
    for t in kept.tolist():
        assert np.array_equal(short.picture(t), whole.picture(t))
        assert np.array_equal(short.face(t), whole.face(t))
        assert np.array_equal(short.halved().picture(t), whole.halved().picture(t))
    t = short.face_pairs(short.split.train)[:2]
    view = View(whole_window(SIZE))
    assert all(torch.equal(a, b) for a, b in zip(short.batch(t, [view] * 2), whole.batch(t, [view] * 2), strict=True))
    with pytest.raises(AssertionError, match="was not kept"):
        short.picture(short.split.test.start)
    assert made(30.5)[1] == 0
    assert made(28.5)[1] == FRAMES
    assert made(28.5, moved=1.0)[1] == FRAMES, "other poses, other frames"


def test_a_cache_too_small_to_train_on_is_refused_before_decoding(tmp_path: Path) -> None:
    video = probe(filmed(tmp_path / "v.mp4"), Recipe().video)
    data = DataRecipe(gap_s=0.1, min_train_frames=8, cache_gb=1e-9)
    with pytest.raises(RecipeInvalid, match=r"data\.cache_gb"):
        prepare(video, moving_poses(), fit(SIZE, 3072, 8), data, FigureRecipe(), tmp_path / "c", "k")
    assert [p.name for p in tmp_path.iterdir()] == ["v.mp4"]


@pytest.mark.parametrize("short", [False, True])
def test_pairs_never_cross_from_one_video_to_the_next(tmp_path: Path, short: bool) -> None:
    reel = open_footage([filmed_ramp(tmp_path / "a.mp4", SIZE), filmed(tmp_path / "b.mp4")], Recipe().video)
    placed = fit(SIZE, SIZE[0] * SIZE[1], 8)
    room = 100 if short else 1000
    data = DataRecipe(gap_s=0.1, min_train_frames=8, cache_gb=(room + 0.5) * frame_bytes(placed, 0) / 1e9)
    target = prepare(reel, moving_poses(2 * FRAMES), placed, data, FigureRecipe(), tmp_path / "c", "k")
    assert target.cuts == (FRAMES,)
    pairs = target.pairs(target.split.train)
    assert target.split.train.stop > FRAMES + 10
    assert FRAMES not in pairs
    assert len(pairs) == len(target.split.train) - 2 or short
    assert np.array_equal(target.halved().pairs(target.split.train), pairs)
    true = list(read_frames(reel))
    for t in np.flatnonzero(target.usable)[::9].tolist():
        assert np.array_equal(target.picture(t), true[t])
