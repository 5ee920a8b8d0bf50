from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dancedist.pose.topology import HALPE26, TOPOLOGIES, WHOLEBODY133, Topology
from dancedist.recipe.schema import FigureRecipe
from dancedist.skeleton.draw import _clip, _limb_style, draw_figure

RECIPE = FigureRecipe()


def pose(topology: Topology = HALPE26, size: tuple[int, int] = (200, 120), seed: int = 0):
    rng = np.random.default_rng(seed)
    xy = (rng.uniform(0.2, 0.8, (len(topology), 2)) * size).astype(np.float32)
    return xy, np.ones(len(topology), np.float32)


@pytest.mark.parametrize("topology", TOPOLOGIES.values(), ids=lambda t: t.name)
@pytest.mark.parametrize("size", [(512, 256), (144, 144), (72, 128), (1, 1)])
def test_drawing_is_deterministic_for_any_layout_and_size(topology, size):
    xy, score = pose(topology, size)
    picture = draw_figure(xy, score, topology, size, RECIPE)
    assert picture.shape == (size[1], size[0], 3) and picture.dtype == np.uint8
    assert picture.any()
    assert picture.tobytes() == draw_figure(xy.copy(), score, topology, size, RECIPE).tobytes()


def test_a_limb_has_the_right_position_and_width():
    xy, score = pose()
    score[:] = 0
    a, b = HALPE26.index["left_hip"], HALPE26.index["left_knee"]
    xy[a], xy[b], score[[a, b]] = (60, 30), (60, 90), 1
    picture = draw_figure(xy, score, HALPE26, (200, 120), FigureRecipe(limb_width=0.05)).max(axis=2)
    lit = picture > 0
    assert lit[60, 60] and not lit[60, 30] and not lit[10, 60]
    assert picture[60].sum() / picture[60, 60] == pytest.approx(0.05 * 200, abs=1.5)
    assert 0 < picture[60][lit[60]].min() < picture[60].max(), "an antialiased edge"
    columns = np.flatnonzero(lit[60])
    assert columns.mean() == pytest.approx(60, abs=0.6)


def test_a_shift_of_an_eighth_of_a_pixel_is_visible():
    xy, score = pose()
    shifted = [draw_figure(np.rint(xy) + np.float32(i / 8), score, HALPE26, (200, 120), RECIPE) for i in range(8)]
    assert len({m.tobytes() for m in shifted}) == 8
    steps = [np.abs(a.astype(int) - b).mean() for a, b in pairwise(shifted)]
    assert min(steps) > 0 and max(steps) < 5


def test_left_and_right_differ_and_every_limb_has_its_own_colour():
    for topology in TOPOLOGIES.values():
        order, colours, _ = _limb_style(topology)
        assert len(set(colours)) == len(colours), topology.name
        for i, (r, g, b) in zip(order.tolist(), colours, strict=True):
            names = topology.limbs[i]
            left, right = (any(n.startswith(side) for n in names) for side in ("left", "right"))
            assert (b > r and b >= g) == (left and not right), (names, (r, g, b))
            assert (r > b and r >= g) == (right and not left), (names, (r, g, b))


def test_absent_and_low_score_keypoints_are_not_drawn():
    xy, score = pose()
    assert not draw_figure(np.full_like(xy, np.nan), score, HALPE26, (200, 120), RECIPE).any()
    assert not draw_figure(xy, score * 0.29, HALPE26, (200, 120), RECIPE).any()
    wrist = HALPE26.index["left_wrist"]
    low_score = score.copy()
    low_score[wrist] = 0.1
    absent = xy.copy()
    absent[wrist] = np.nan
    expected = draw_figure(absent, score, HALPE26, (200, 120), RECIPE)
    assert np.array_equal(draw_figure(xy, low_score, HALPE26, (200, 120), RECIPE), expected)
    assert not np.array_equal(draw_figure(xy, score, HALPE26, (200, 120), RECIPE), expected)


def test_a_keypoint_whose_limbs_are_absent_is_a_dot():
    xy, score = pose()
    score[:] = 0
    toe = HALPE26.index["right_big_toe"]
    score[toe] = 1
    assert 1 <= draw_figure(xy, score, HALPE26, (200, 120), RECIPE).any(axis=2).sum() <= 30


def test_the_heads_direction_is_visible_at_a_small_size():
    xy, score = pose(size=(144, 144))
    score[:] = 0
    for name, x in (("nose", 70), ("left_eye", 72), ("right_eye", 68), ("left_ear", 74), ("right_ear", 66)):
        xy[HALPE26.index[name]], score[HALPE26.index[name]] = (x, 40), 1
    facing_ahead = draw_figure(xy, score, HALPE26, (144, 144), RECIPE).astype(int)
    xy[HALPE26.index["nose"], 0] += 2
    facing_aside = draw_figure(xy, score, HALPE26, (144, 144), RECIPE).astype(int)
    assert (np.abs(facing_ahead - facing_aside).max(axis=2) > 100).sum() >= 2


def test_hands_and_faces_are_thinner():
    _, _, parts = _limb_style(WHOLEBODY133)
    order = _limb_style(WHOLEBODY133)[0]
    fine = [any("face_" in n or "_hand_" in n for n in WHOLEBODY133.limbs[i]) for i in order]
    assert parts[fine].max() < 0.5 < parts[~np.array(fine)].max()


@given(st.lists(st.floats(width=32), min_size=52, max_size=52), st.floats(0, 1, width=32))
def test_extreme_coordinates_do_not_fail(values, score):
    xy = np.array(values, np.float32).reshape(26, 2)
    draw_figure(xy, np.full(26, score, np.float32), HALPE26, (64, 48), RECIPE)


def test_a_limb_that_leaves_the_picture_keeps_its_slope():
    xy, score = pose()
    score[:] = 0
    a, b = HALPE26.index["left_hip"], HALPE26.index["left_knee"]
    xy[a], xy[b], score[[a, b]] = (10, 10), (10 + 1e8, 10 + 5e7), 1
    lit = draw_figure(xy, score, HALPE26, (200, 120), RECIPE).any(axis=2)
    assert lit[50, 90] and lit[100, 190] and not lit[100, 100]


@given(st.lists(st.floats(-300, 300), min_size=4, max_size=4))
def test_clipping_stays_on_the_line_and_inside(values):
    line = np.array(values).reshape(1, 2, 2)
    clipped, inside = _clip(line, (100, 60), 5.0)
    if inside[0]:
        assert (clipped >= -5).all() and (clipped[..., 0] <= 104).all() and (clipped[..., 1] <= 64).all()
        along = (line[0, 1] - line[0, 0]) / max(1e-9, np.hypot(*(line[0, 1] - line[0, 0])))
        for end in clipped[0] - line[0, 0]:
            assert abs(end[0] * along[1] - end[1] * along[0]) < 1e-6
    for fraction in np.linspace(0, 1, 50):
        x, y = line[0, 0] + fraction * (line[0, 1] - line[0, 0])
        if -4.9 < x < 103.9 and -4.9 < y < 63.9:
            assert inside[0]
