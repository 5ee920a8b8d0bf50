from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from dancedist.errors import FootageUnfit
from dancedist.figure.window import whole
from dancedist.pairs import TargetData, prepare, split_by_time, to_pictures, to_tensor
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
