from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dancedist.metrics.pose import missed_detections, pose_distance_px
from dancedist.pose.sequence import PoseSequence

shifts = st.floats(-200, 200, allow_nan=False, width=32)


@given(shifts, shifts, st.integers(0, 9))
def test_the_distance_equals_the_shift(dx: float, dy: float, hidden: int) -> None:
    xy = np.random.default_rng(0).uniform(0, 500, (3, 10, 2)).astype(np.float32)
    score, generated_score = np.ones((3, 10), np.float32), np.ones((3, 10), np.float32)
    generated_score[:, :hidden] = 0.1
    generated = xy + np.array([dx, dy], np.float32)
    generated[:, :hidden] = np.nan
    distance = pose_distance_px(xy, score, generated, generated_score)
    assert distance == pytest.approx([np.hypot(dx, dy)] * 3, abs=1e-3)
    assert missed_detections(xy, score, generated, generated_score).tolist() == [hidden] * 3


def test_keypoints_that_the_truth_lacks_are_ignored(poses: Callable[..., PoseSequence]) -> None:
    true, generated = poses(2), poses(2)
    true.score[:, 0], true.xy[:, 0] = 0, np.nan
    generated.xy[:, 0] += 1000
    assert pose_distance_px(true.xy, true.score, generated.xy, generated.score).tolist() == [0, 0]
    assert missed_detections(true.xy, true.score, generated.xy, generated.score).tolist() == [0, 0]


def test_an_undetected_dancer_misses_all_keypoints(poses: Callable[..., PoseSequence]) -> None:
    true, generated = poses(2), poses(2)
    generated.xy[1], generated.score[1] = np.nan, 0
    distance = pose_distance_px(true.xy, true.score, generated.xy, generated.score)
    assert distance[0] == 0
    assert np.isnan(distance[1])
    assert missed_detections(true.xy, true.score, generated.xy, generated.score).tolist() == [0, 17]


def test_an_absent_truth_is_undefined(poses: Callable[..., PoseSequence]) -> None:
    true, generated = poses(1), poses(1)
    true.xy[:], true.score[:] = np.nan, 0
    assert np.isnan(pose_distance_px(true.xy, true.score, generated.xy, generated.score)).all()
    assert np.isnan(missed_detections(true.xy, true.score, generated.xy, generated.score)).all()
