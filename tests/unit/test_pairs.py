from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from dancedist.errors import FootageUnfit
from dancedist.figure.window import whole
from dancedist.pairs import TargetData, prepare, split_by_time, to_pictures, to_tensor
from dancedist.pose.sequence import PoseSequence
from dancedist.pose.topology import HALPE26
from dancedist.recipe import DataRecipe, FigureRecipe, Recipe
from dancedist.video.encode import write_film
from dancedist.video.fit import fit
from dancedist.video.probe import probe
from dancedist.views import View
from tests.unit.conftest import FRAMES, SIZE, moving_poses


@pytest.mark.parametrize("frames", [120, 1571, 100_000])
def test_blocks_are_contiguous_apart_and_in_order(frames: int) -> None:
    recipe = DataRecipe()
    split = split_by_time(frames, Fraction(25), recipe)
    gap = min(round(recipe.gap_s * 25), frames // 20)
    assert split.train.start == 0
    assert split.validation.start - split.train.stop == gap
    assert split.test.start - split.validation.stop == gap
    assert split.test.stop == frames
    assert len(split.test) == round(frames * recipe.test_fraction)


def test_one_frame_leaves_nothing_to_train_on() -> None:
    assert len(split_by_time(1, Fraction(25), DataRecipe()).train) == 0


def test_a_pair_needs_both_of_its_frames(toy_target: TargetData) -> None:
    usable = toy_target.usable.copy()
    usable[10] = False
    pairs = replace(toy_target, usable=usable).pairs(range(8, 14))
    assert pairs.tolist() == [9, 12, 13]


def test_batch_is_figures_and_pictures_of_both_frames(toy_target: TargetData) -> None:
    view = View(whole(SIZE))
    figures, pictures = toy_target.batch(np.array([5, 9]), [view, view])
    assert figures.shape == pictures.shape == (2, 2, 3, SIZE[1], SIZE[0])
    assert np.array_equal(to_pictures(pictures[1]), toy_target.pictures[8:10])
    assert np.array_equal(to_pictures(figures[0]), [toy_target.figure_of(t, view) for t in (4, 5)])
    assert figures.min() == -1


def test_half_the_size_is_the_mean_of_2x2_of_the_same_pairs(toy_target: TargetData) -> None:
    half = toy_target.halved()
    assert half.size == half.poses.size == (SIZE[0] // 2, SIZE[1] // 2)
    assert half.pictures is toy_target.pictures
    block = toy_target.split.train
    assert np.array_equal(half.pairs(block), toy_target.pairs(block))
    small = half.picture(7)
    blocks = toy_target.pictures[7].reshape(SIZE[1] // 2, 2, SIZE[0] // 2, 2, 3).astype(float).mean((1, 3))
    assert small.shape == (SIZE[1] // 2, SIZE[0] // 2, 3)
    assert np.abs(small - blocks).max() <= 0.5
    figures, pictures = half.batch(np.array([7]), [View(whole(half.size))])
    assert figures.shape == pictures.shape == (1, 2, 3, SIZE[1] // 2, SIZE[0] // 2)
    assert np.array_equal(to_pictures(pictures[0])[1], small)


def test_half_the_size_moves_nothing(toy_target: TargetData) -> None:
    """The bright square stays on the keypoint that it follows: a shift of half a pixel would show."""
    half = toy_target.halved()
    for t in range(0, FRAMES, 7):
        weight = (half.picture(t)[..., 0].astype(float) - 60).clip(0)
        y, x = ((weight * axis).sum() / weight.sum() for axis in np.indices(weight.shape))
        true = (toy_target.poses.xy[t, 0].round() + 0.5) / 2 - 0.5
        assert np.abs([x, y] - true).max() < 0.1


def test_a_halved_figure_is_drawn_anew_where_the_large_one_is(toy_target: TargetData) -> None:
    large = toy_target.figure_of(3, View(whole(toy_target.size)))
    half = toy_target.halved()
    small = half.figure_of(3, View(whole(half.size)))
    shrunk = large.reshape(*small.shape[:1], 2, small.shape[1], 2, 3).mean((1, 3))
    assert np.corrcoef(small.ravel(), shrunk.ravel())[0, 1] > 0.8


def test_the_stage_is_halved_with_the_pictures(toy_target: TargetData) -> None:
    stage = np.random.default_rng(0).integers(0, 255, (SIZE[1], SIZE[0], 3), np.uint8)
    assert np.array_equal(toy_target.stage_picture(stage), toy_target.fit.to_picture(stage))
    assert toy_target.halved().stage_picture(stage).shape == (SIZE[1] // 2, SIZE[0] // 2, 3)


def test_pictures_and_tensors_are_the_same_bytes() -> None:
    every = np.arange(256, dtype=np.uint8).repeat(3).reshape(1, 16, 16, 3)
    assert np.array_equal(to_pictures(to_tensor(every)), every)


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
    assert np.array_equal(first.pictures, again.pictures)
    made("b")
    assert sum(told) == 2 * FRAMES
    assert sorted(p.name for p in tmp_path.iterdir()) == ["cache", "v.mp4"]


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
    assert not faced.faces[20:30].any()


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
