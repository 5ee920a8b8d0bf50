from __future__ import annotations

import time
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from dancedist.pose.smooth import BLOCK_FRAMES, adaptive_median, one_euro, smooth

FPS = Fraction(25)
# Whole numbers: float32 adds them without rounding.
TRACKS = hnp.arrays(np.int16, st.tuples(st.integers(1, 24), st.just(2), st.just(2)), elements=st.integers(-500, 500))


def scores(shape: tuple[int, ...], seed: int) -> np.ndarray:
    return np.random.default_rng(seed).uniform(0.05, 1, shape).astype(np.float32)


def wave(frames: int = 60) -> np.ndarray:
    t = np.arange(frames) / 25
    return np.stack([200 + 80 * np.sin(2 * t), 300 + 30 * np.cos(3 * t)], axis=-1)[:, None].astype(np.float32)


@pytest.mark.parametrize("method", ["median", "one_euro", "none"])
def test_a_still_pose_does_not_change(method: str) -> None:
    xy = np.broadcast_to(np.float32([[3.5, 7.25], [100, 1]]), (20, 2, 2)).copy()
    np.testing.assert_array_equal(smooth(xy, scores((20, 2), 0), FPS, method), xy)  # type: ignore[arg-type]


@pytest.mark.parametrize("method", ["median", "one_euro", "none"])
def test_absent_frames_stay_absent_and_do_not_affect_others(method: str) -> None:
    xy = wave()
    score = np.ones(xy.shape[:2], np.float32)
    xy[[0, 10, 11, 59]], score[[0, 10, 11, 59]] = np.nan, 0
    out = smooth(xy, score, FPS, method)  # type: ignore[arg-type]
    np.testing.assert_array_equal(np.isnan(out), np.isnan(xy))
    assert np.nanmax(np.abs(out - xy)) < 20


@settings(deadline=None, max_examples=60)
@given(TRACKS, st.integers(0, 99), st.integers(-1000, 1000))
def test_the_median_is_exactly_translation_invariant(xy: np.ndarray, seed: int, shift: int) -> None:
    xy = xy.astype(np.float32)
    score = scores(xy.shape[:2], seed)
    np.testing.assert_array_equal(adaptive_median(xy + np.float32(shift), score), adaptive_median(xy, score) + shift)


@settings(deadline=None, max_examples=60)
@given(TRACKS, st.integers(0, 99))
def test_the_median_returns_positions_of_nearby_frames(xy: np.ndarray, seed: int) -> None:
    xy = xy.astype(np.float32)
    out = adaptive_median(xy, scores(xy.shape[:2], seed), 5)
    for t in range(len(xy)):
        near = xy[max(0, t - 2) : t + 3]
        assert (near == out[t]).any(axis=0).all()


@settings(deadline=None, max_examples=30)
@given(st.integers(-40, 40), st.integers(0, 99), st.sets(st.integers(0, 29), max_size=6))
def test_the_median_does_not_lag_behind_steady_motion(speed: int, seed: int, absent: set[int]) -> None:
    xy = (np.arange(30)[:, None, None] * np.float32([speed, -3])).astype(np.float32)
    score = scores((30, 1), seed)
    xy[sorted(absent)], score[sorted(absent)] = np.nan, 0
    np.testing.assert_array_equal(adaptive_median(xy, score), xy)


def test_the_median_removes_one_outlier_or_two_of_low_score() -> None:
    expected = np.zeros((15, 1, 2), np.float32)
    sure = np.ones((15, 1), np.float32)
    one, two, low = expected.copy(), expected.copy(), sure.copy()
    one[7] = 90
    two[[7, 8]], low[[7, 8]] = 90, 0.2
    np.testing.assert_array_equal(adaptive_median(one, sure), expected)
    np.testing.assert_array_equal(adaptive_median(two, low), expected)


def test_a_move_of_high_score_survives_and_one_of_low_score_does_not() -> None:
    xy = np.zeros((15, 1, 2), np.float32)
    xy[6:9] = 90
    sure, doubtful = np.ones((15, 1), np.float32), np.ones((15, 1), np.float32)
    doubtful[6:9] = 0.2
    assert adaptive_median(xy, sure)[7, 0, 0] == 90
    assert adaptive_median(xy, doubtful)[7, 0, 0] == 0


@pytest.mark.parametrize("method", ["median", "one_euro"])
def test_jitter_decreases_and_the_motion_is_preserved(method: str) -> None:
    truth = wave(200)
    noisy = truth + np.random.default_rng(0).normal(0, 2, truth.shape).astype(np.float32)
    # A second keypoint gives the person a height.
    truth, noisy = (np.concatenate([xy, xy + np.float32([0, 300])], axis=1) for xy in (truth, noisy))
    out = smooth(noisy, np.ones(noisy.shape[:2], np.float32), FPS, method)  # type: ignore[arg-type]
    assert np.abs(np.diff(out, 2, axis=0)).mean() < 0.7 * np.abs(np.diff(noisy, 2, axis=0)).mean()
    assert np.abs(out - truth).mean() < np.abs(noisy - truth).mean()


def test_one_euro_does_not_depend_on_the_frame_size() -> None:
    xy = np.concatenate([wave(), wave() + np.float32([0, 300])], axis=1)
    np.testing.assert_allclose(one_euro(4 * xy, FPS), 4 * one_euro(xy, FPS), rtol=1e-4)


def test_blocks_of_a_long_sequence_have_no_seams() -> None:
    frames = 2 * BLOCK_FRAMES + 5
    xy = np.random.default_rng(1).normal(0, 9, (frames, 2, 2)).astype(np.float32)
    score = scores((frames, 2), 1)
    seam = slice(BLOCK_FRAMES - 40, BLOCK_FRAMES + 40)
    whole = adaptive_median(xy, score)
    np.testing.assert_array_equal(whole[seam][3:-3], adaptive_median(xy[seam], score[seam])[3:-3])


def test_a_minute_of_poses_is_smoothed_in_under_two_seconds() -> None:
    xy = np.random.default_rng(0).normal(0, 9, (1500, 26, 2)).astype(np.float32)
    started = time.process_time()
    adaptive_median(xy, np.ones((1500, 26), np.float32))
    one_euro(xy, FPS)
    assert time.process_time() - started < 2


def test_empty_and_single_frame_sequences_do_not_change() -> None:
    for frames in (0, 1):
        xy = np.ones((frames, 26, 2), np.float32)
        for method in ("median", "one_euro"):
            out = smooth(xy, np.ones((frames, 26), np.float32), FPS, method)  # type: ignore[arg-type]
            np.testing.assert_array_equal(out, xy)
