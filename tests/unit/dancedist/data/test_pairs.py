from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from dancedist.data.crops import View
from dancedist.data.pairs import TargetData
from dancedist.data.split import split_by_time
from dancedist.data.tensors import to_pictures, to_tensor
from dancedist.recipe.schema import DataRecipe
from dancedist.skeleton.window import full_window
from tests.unit.conftest import FRAMES, SIZE


@pytest.mark.parametrize("frames", [120, 1571, 100_000])
def test_blocks_are_in_order_with_gaps_between(frames: int) -> None:
    recipe = DataRecipe()
    split = split_by_time(frames, Fraction(25), recipe)
    gap = min(round(recipe.gap_s * 25), frames // 20)
    assert split.train.start == 0
    assert split.validation.start - split.train.stop == gap
    assert split.test.start - split.validation.stop == gap
    assert split.test.stop == frames
    assert len(split.test) == round(frames * recipe.test_fraction)


def test_a_video_of_one_frame_has_no_training_block() -> None:
    assert len(split_by_time(1, Fraction(25), DataRecipe()).train) == 0


def test_a_pair_needs_both_of_its_frames(toy_target: TargetData) -> None:
    usable = toy_target.usable.copy()
    usable[10] = False
    pairs = replace(toy_target, usable=usable).pairs(range(8, 14))
    assert pairs.tolist() == [9, 12, 13]


def test_a_batch_has_skeletons_and_pictures_of_both_frames(toy_target: TargetData) -> None:
    view = View(full_window(SIZE))
    figures, pictures = toy_target.batch(np.array([5, 9]), [view, view])
    assert figures.shape == pictures.shape == (2, 2, 3, SIZE[1], SIZE[0])
    assert np.array_equal(to_pictures(pictures[1]), toy_target.pictures[8:10])
    assert np.array_equal(to_pictures(figures[0]), [toy_target.figure_of(t, view) for t in (4, 5)])
    assert figures.min() == -1


def test_halved_pictures_are_the_mean_of_2x2_of_the_same_pairs(toy_target: TargetData) -> None:
    half = toy_target.halved()
    assert half.size == half.poses.size == (SIZE[0] // 2, SIZE[1] // 2)
    assert half.pictures is toy_target.pictures
    block = toy_target.split.train
    assert np.array_equal(half.pairs(block), toy_target.pairs(block))
    small = half.picture(7)
    blocks = toy_target.pictures[7].reshape(SIZE[1] // 2, 2, SIZE[0] // 2, 2, 3).astype(float).mean((1, 3))
    assert small.shape == (SIZE[1] // 2, SIZE[0] // 2, 3)
    assert np.abs(small - blocks).max() <= 0.5
    figures, pictures = half.batch(np.array([7]), [View(full_window(half.size))])
    assert figures.shape == pictures.shape == (1, 2, 3, SIZE[1] // 2, SIZE[0] // 2)
    assert np.array_equal(to_pictures(pictures[0])[1], small)


def test_halving_does_not_shift_pictures_or_points(toy_target: TargetData) -> None:
    """The bright square stays on its keypoint: a shift of half a pixel would be detected."""
    poses = replace(toy_target.poses, xy=toy_target.poses.xy.round())
    half = replace(toy_target, poses=poses).halved()
    for t in range(0, FRAMES, 7):
        weight = (half.picture(t)[..., 0].astype(float) - 60).clip(0)
        y, x = ((weight * axis).sum() / weight.sum() for axis in np.indices(weight.shape))
        assert np.abs([x, y] - half.poses.xy[t, 0]).max() < 0.1


def test_a_halved_skeleton_is_redrawn_at_the_same_position(toy_target: TargetData) -> None:
    large = toy_target.figure_of(3, View(full_window(toy_target.size)))
    half = toy_target.halved()
    small = half.figure_of(3, View(full_window(half.size)))
    shrunk = large.reshape(*small.shape[:1], 2, small.shape[1], 2, 3).mean((1, 3))
    assert np.corrcoef(small.ravel(), shrunk.ravel())[0, 1] > 0.8


def test_the_background_is_halved_with_the_pictures(toy_target: TargetData) -> None:
    background = np.random.default_rng(0).integers(0, 255, (SIZE[1], SIZE[0], 3), np.uint8)
    assert np.array_equal(toy_target.background_picture(background), toy_target.letterbox.to_picture(background))
    assert toy_target.halved().background_picture(background).shape == (SIZE[1] // 2, SIZE[0] // 2, 3)


def test_pictures_survive_the_round_trip_through_tensors() -> None:
    all_values = np.arange(256, dtype=np.uint8).repeat(3).reshape(1, 16, 16, 3)
    assert np.array_equal(to_pictures(to_tensor(all_values)), all_values)
