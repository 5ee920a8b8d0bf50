from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dancedist.video.timeline import MAX_DENOMINATOR, timeline

TICK = Fraction(1, 12800)


def test_a_constant_rate_is_preserved():
    pts = np.arange(217) * 512 + 1024
    times = timeline(pts, TICK, [Fraction(25)])
    assert times.fps == 25
    assert not times.variable
    assert np.array_equal(times.shown, pts)


@pytest.mark.parametrize("fps", [Fraction(30), Fraction(30000, 1001), Fraction(24000, 1001), Fraction(60)])
def test_timestamps_rounded_to_milliseconds_are_a_constant_rate(fps):
    pts = np.array([round(i * 1000 / fps) for i in range(3000)])
    times = timeline(pts, Fraction(1, 1000), [fps])
    assert (times.fps, times.variable) == (fps, False)
    assert np.array_equal(times.shown, pts)


def test_an_undeclared_rate_is_detected():
    times = timeline(np.arange(100) * 640, Fraction(1, 15952), [None, Fraction(90000)])
    assert times.fps == Fraction(997, 40)


def test_a_missing_frame_is_replaced_at_a_constant_rate():
    pts = np.delete(np.arange(103) * 512, 50)
    times = timeline(pts, TICK, [Fraction(25)])
    assert (times.fps, times.variable, times.repeated) == (Fraction(25), False, 1)
    assert len(times.shown) == 103
    assert times.shown[50] == 49 * 512
    assert times.shown[102] == 102 * 512


def test_one_frame_has_the_declared_rate():
    assert timeline(np.array([0]), TICK, [Fraction(30)]).fps == 30
    assert timeline(np.array([0]), TICK, [None]).fps == 25


@given(st.lists(st.integers(200, 1500), min_size=20, max_size=200))
def test_a_variable_rate_becomes_its_mean_with_the_nearest_frame_at_each_time(gaps):
    pts = np.concatenate([[77], 77 + np.cumsum(gaps)])
    times = timeline(pts, TICK, [])
    period = 1 / (times.fps * TICK)
    ideal = np.array([77 + float(i * period) for i in range(len(times.shown))])
    nearest = np.abs(ideal[:, None] - pts[None]).min(axis=1)
    assert np.allclose(np.abs(ideal - times.shown), nearest, atol=1e-6)
    assert np.all(np.diff(times.shown) >= 0)
    if times.variable:
        assert len(times.shown) == len(pts)
        # Tolerance: distance to the nearest fraction with a denominator up to MAX_DENOMINATOR.
        mean = (len(pts) - 1) / float((pts[-1] - pts[0]) * TICK)
        assert times.fps == pytest.approx(mean, abs=0.5 / MAX_DENOMINATOR)
