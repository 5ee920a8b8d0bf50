from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from dancedist.pose.topology import HALPE26
from dancedist.synthetic import SOURCE, TARGET_TEST, Backdrop, Performer, draw
from dancedist.synthetic.backdrop import paint

SIZE = TARGET_TEST.size
POSES = TARGET_TEST.poses().xy
ROSA, LOFT = TARGET_TEST.performer, TARGET_TEST.backdrop
AT = HALPE26.index


def changed(frame: np.ndarray) -> np.ndarray:
    """bool (H, W): pixels of the dancer or the shadow."""
    return np.abs(frame.astype(int) - paint(LOFT, SIZE).astype(int)).max(axis=2) > 12


def test_drawing_is_deterministic_and_does_not_change_the_backdrop() -> None:
    before = paint(LOFT, SIZE).copy()
    one, other = (draw(ROSA, LOFT, POSES[17], SIZE) for _ in range(2))
    assert one.shape == (SIZE[1], SIZE[0], 3) and one.dtype == np.uint8
    assert one.tobytes() == other.tobytes()
    np.testing.assert_array_equal(paint(LOFT, SIZE), before)


def test_without_joints_only_the_backdrop_is_drawn() -> None:
    empty = draw(ROSA, LOFT, np.full((26, 2), np.nan, np.float32), SIZE)
    np.testing.assert_array_equal(empty, paint(LOFT, SIZE).astype(np.uint8))


def test_every_joint_is_on_the_dancer() -> None:
    for xy in POSES[::40]:
        drawn = changed(draw(ROSA, LOFT, xy, SIZE))
        for name, i in AT.items():
            x, y = np.round(xy[i]).astype(int)
            assert drawn[y - 4 : y + 5, x - 4 : x + 5].any(), name
    assert drawn.mean() < 0.25


def test_a_small_change_of_the_joints_is_a_small_change_of_the_picture() -> None:
    rng = np.random.default_rng(3)
    for xy in POSES[::55]:
        near = xy + rng.normal(0, 0.02, xy.shape).astype(np.float32)
        step = np.abs(draw(ROSA, LOFT, near, SIZE).astype(int) - draw(ROSA, LOFT, xy, SIZE))
        assert step.mean() < 0.05
        assert np.percentile(step[changed(draw(ROSA, LOFT, xy, SIZE))], 99) < 16


def test_the_picture_follows_the_joints() -> None:
    shift = np.array([7, 0], np.float32)
    frame = draw(ROSA, LOFT, POSES[0], SIZE)
    moved = draw(ROSA, LOFT, POSES[0] + shift, SIZE)
    x, y = np.round(POSES[0][AT["neck"]]).astype(int)
    trunk = (slice(y + 10, y + 60), slice(x - 12, x + 12))
    np.testing.assert_allclose(np.roll(moved, -7, axis=1)[trunk], frame[trunk], atol=2)


def test_the_print_rotates_with_the_trunk() -> None:
    xy = POSES[0]
    angle = np.radians(12)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]], np.float32)
    neck = xy[AT["neck"]]
    tilted = (xy - neck) @ turn.T + neck
    yellow = []
    for pose in (xy, tilted):
        frame = draw(ROSA, LOFT, pose, SIZE).astype(int)
        ys, xs = np.nonzero((frame[..., 0] > 190) & (frame[..., 1] > 140) & (frame[..., 2] < 110))
        on_trunk = np.hypot(xs - neck[0], ys - neck[1]) < 60
        yellow.append(np.array([xs[on_trunk].mean(), ys[on_trunk].mean()]) - neck)
    np.testing.assert_allclose(yellow[1], turn @ yellow[0], atol=1.5)


def test_other_performers_poses_sizes_and_partly_visible_dancers_can_be_drawn() -> None:
    source = SOURCE.poses().xy[30]
    for xy, size in ((source, SOURCE.size), (source * 1.5, (960, 540)), (source - [330, 200], (200, 120))):
        frame = draw(ROSA, LOFT, xy.astype(np.float32), size)
        assert frame.shape == (size[1], size[0], 3)
    draw(ROSA, LOFT, source - 5000, (64, 64))
    draw(ROSA, LOFT, np.zeros((26, 2), np.float32), (64, 64))


@pytest.mark.parametrize("pattern", ["plain", "stripes", "bars", "checks", "dots", "denim"])
def test_the_pattern_of_clothes_is_visible(pattern: str) -> None:
    cloth = replace(ROSA.shirt, pattern=pattern, colour=(20, 200, 40))
    other = draw(replace(ROSA, shirt=cloth), LOFT, POSES[5], SIZE)
    assert (np.abs(other.astype(int) - draw(ROSA, LOFT, POSES[5], SIZE)).max(axis=2) > 30).mean() > 0.01


def test_the_default_performer_can_be_drawn() -> None:
    assert draw(Performer(), Backdrop(), POSES[0], SIZE).std() > 20
