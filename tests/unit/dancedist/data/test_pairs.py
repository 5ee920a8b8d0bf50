from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from dancedist.data.crops import View
from dancedist.data.pairs import TargetData, to_pictures, to_tensor
from dancedist.data.split import split_by_time
from dancedist.recipe import DataRecipe
from dancedist.skeleton.window import whole
from tests.unit.conftest import FRAMES, SIZE


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
    poses = replace(toy_target.poses, xy=toy_target.poses.xy.round())
    half = replace(toy_target, poses=poses).halved()
    for t in range(0, FRAMES, 7):
        weight = (half.picture(t)[..., 0].astype(float) - 60).clip(0)
        y, x = ((weight * axis).sum() / weight.sum() for axis in np.indices(weight.shape))
        assert np.abs([x, y] - half.poses.xy[t, 0]).max() < 0.1


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
