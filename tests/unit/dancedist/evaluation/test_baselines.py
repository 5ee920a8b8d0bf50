from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from dancedist.evaluation import baselines
from dancedist.evaluation.baselines import mean_frame, nearest_frames
from dancedist.pose.sequence import PoseSequence

Poses = Callable[..., PoseSequence]


def test_a_training_frame_is_nearest_to_itself(poses: Poses, monkeypatch: pytest.MonkeyPatch) -> None:
    train = poses(50)
    assert nearest_frames(train, train).tolist() == list(range(50))
    monkeypatch.setattr(baselines, "_BLOCK", 120)  # two queries at a time
    assert nearest_frames(train, train.slice(3, 20)).tolist() == list(range(3, 20))


def test_position_counts(poses: Poses) -> None:
    pose = poses(1)
    train = replace(pose, xy=np.concatenate([pose.xy, pose.xy + 100]), score=np.ones((2, 17), np.float32))
    query = replace(pose, xy=pose.xy + 90)
    assert nearest_frames(train, query).tolist() == [1]


def test_noise_and_missing_keypoints_do_not_change_the_result(poses: Poses) -> None:
    train = poses(40)
    query = replace(train, xy=train.xy + np.random.default_rng(1).normal(0, 2, train.xy.shape).astype(np.float32))
    query.score[:, 4:8], query.xy[:, 4:8] = 0, np.nan
    assert nearest_frames(train, query).tolist() == list(range(40))


def test_an_incomplete_pose_has_no_advantage(poses: Poses) -> None:
    query = poses(1)
    train = replace(query, xy=np.concatenate([query.xy + 5, query.xy]), score=np.ones((2, 17), np.float32))
    train.score[1, 1:], train.xy[1, 1:] = 0, np.nan  # one keypoint, at distance 0
    assert nearest_frames(train, query).tolist() == [0]


def test_an_absent_dancer_is_nearest_to_an_absent_one(poses: Poses) -> None:
    train = poses(5)
    train.score[3], train.xy[3] = 0, np.nan
    query = train.slice(3, 4)
    assert nearest_frames(train, query).tolist() == [3]


@pytest.mark.parametrize(("diagonals", "nearest"), [(0.9, 1), (1.1, 0)])
def test_an_empty_pose_is_one_diagonal_away(poses: Poses, diagonals: float, nearest: int) -> None:
    query = poses(1)
    diagonal = float(np.linalg.norm(np.ptp(query.xy[0], axis=0)))
    away = query.xy + np.array([diagonals * diagonal, 0], np.float32)
    train = replace(query, xy=np.concatenate([query.xy * np.nan, away]), score=np.ones((2, 17), np.float32))
    train.score[0] = 0
    assert nearest_frames(train, query).tolist() == [nearest]


def test_absent_training_poses_and_no_queries(poses: Poses) -> None:
    train = poses(2)
    train.score[:], train.xy[:] = 0, np.nan
    assert nearest_frames(train, poses(1)).tolist() == [0]
    assert nearest_frames(train, poses(0)).shape == (0,)


def test_mean_frame() -> None:
    frames = np.random.default_rng(0).integers(0, 256, (7, 5, 6, 3), np.uint8)
    expected = np.floor(frames.mean(axis=0) + 0.5).astype(np.uint8)
    assert np.array_equal(mean_frame([*frames[:3], None, *frames[3:]]), expected)
    assert np.array_equal(mean_frame(iter(frames[:1])), frames[0])


def test_the_mean_needs_a_frame() -> None:
    with pytest.raises(AssertionError, match="no frame"):
        mean_frame([None])
