from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from dancedist.recipe.schema import FigureRecipe
from dancedist.skeleton.draw import draw_figure
from dancedist.skeleton.window import Window, dancer_boxes, film_windows, full_window, place_window, window_size
from tests.unit.conftest import moving_poses

SIZE = (160, 120)
POSES = moving_poses(40, SIZE)


def test_windows_of_a_film_have_one_size_and_contain_the_dancer() -> None:
    windows = film_windows(POSES, SIZE, 8, 0.3)
    assert len({(w.width, w.height) for w in windows}) == 1
    assert windows[0].width % 8 == windows[0].height % 8 == 0
    assert windows[0].width < SIZE[0]
    for w, xy in zip(windows, POSES.xy, strict=True):
        assert (xy >= (w.left, w.top)).all()
        assert (xy <= (w.left + w.width - 1, w.top + w.height - 1)).all()


def test_a_frame_without_dancer_has_the_previous_window() -> None:
    xy, score = POSES.xy.copy(), POSES.score.copy()
    xy[[0, 7, 8]], score[[0, 7, 8]] = np.nan, 0
    windows = film_windows(replace(POSES, xy=xy, score=score), SIZE, 8, 0.3)
    assert windows[0] == windows[1]
    assert windows[6] == windows[7] == windows[8]


def test_absent_keypoints_are_ignored() -> None:
    xy, score = POSES.xy[:1].copy(), POSES.score[:1].copy()
    xy[0, 3], score[0, 3] = (5000, 5000), 0.1
    assert np.array_equal(dancer_boxes(xy, score, 0.3)[0, 2:] < SIZE, [True, True])
    assert np.isnan(dancer_boxes(xy, score * 0, 0.3)).all()


@pytest.mark.parametrize("box", [(-30, -30, 10, 20), (150, 100, 200, 190), (0, 0, 4000, 4000), (70, 50, 71, 51)])
def test_a_window_is_within_the_picture(box: tuple[int, ...]) -> None:
    size = window_size(np.array(box, float), SIZE, 8)
    w = place_window(np.array(box, float), size, SIZE)
    assert 0 <= w.left <= w.left + w.width <= SIZE[0]
    assert 0 <= w.top <= w.top + w.height <= SIZE[1]
    assert min(size) >= 8


def test_drawing_in_a_window_equals_the_crop_of_the_whole_drawing() -> None:
    recipe = FigureRecipe()
    for xy, score, window in zip(POSES.xy, POSES.score, film_windows(POSES, SIZE, 8, 0.3), strict=True):
        whole_figure = draw_figure(xy, score, POSES.topology, SIZE, recipe)
        part = draw_figure(xy, score, POSES.topology, SIZE, recipe, window)
        assert np.array_equal(part, whole_figure[window.rows, window.columns])
    assert np.array_equal(draw_figure(xy, score, POSES.topology, SIZE, recipe, full_window(SIZE)), whole_figure)
    # Lines that a window clips have other end points, which are rounded to 1/16 px.
    small = Window(50, 30, 48, 56)
    part = draw_figure(xy, score, POSES.topology, SIZE, recipe, small)
    assert np.abs(part.astype(int) - whole_figure[small.rows, small.columns]).mean() < 1
