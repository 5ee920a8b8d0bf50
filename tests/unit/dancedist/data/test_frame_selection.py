from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from dancedist.data import frame_selection
from dancedist.data.frame_selection import evenly_spaced, farthest_first, select_frames
from dancedist.pose.sequence import PoseSequence
from tests.unit.conftest import moving_poses


def mostly_standing(frames: int, moves: int) -> PoseSequence:
    """Poses at rest, except for `moves` frames in the middle in which the whole body moves."""
    poses = moving_poses(frames)
    xy = np.broadcast_to(poses.xy[0], poses.xy.shape).copy()
    middle = slice(frames // 2, frames // 2 + moves)
    xy[middle] += np.random.default_rng(1).uniform(-12, 12, xy[middle].shape).astype(np.float32)
    return replace(poses, xy=xy)


def test_rare_poses_are_selected_before_common_ones() -> None:
    poses = mostly_standing(2000, 20)
    selected = select_frames(poses, np.arange(1, 2000), 60)
    assert set(range(999, 1020)) <= set(selected.tolist())
    assert 59 <= len(selected) <= 60


@pytest.mark.parametrize("budget", [0, 1, 2, 7, 100, 399, 400, 1000])
def test_the_budget_is_respected_and_used(budget: int) -> None:
    pairs = np.arange(1, 400)
    selected = select_frames(moving_poses(400), pairs, budget)
    assert len(np.unique(selected)) == len(selected) <= budget
    assert np.all(np.diff(selected) > 0)
    assert len(selected) >= min(budget, 400) - 1
    unpaired = [t for t in selected.tolist() if t - 1 not in selected and t + 1 not in selected]
    assert not unpaired, "a frame of no pair"


def test_only_frames_of_pairs_are_selected() -> None:
    pairs = np.array([5, 6, 30, 80])
    assert select_frames(moving_poses(100), pairs, 1000).tolist() == [4, 5, 6, 29, 30, 79, 80]


def test_farthest_first_covers_twice_as_well_as_a_random_choice() -> None:
    """Greedy k-centre is within a factor 2 of the best radius; a random choice misses rare poses."""
    rng = np.random.default_rng(0)
    x = np.rint(np.concatenate([rng.normal(0, 5, (5000, 4)), rng.uniform(-100, 100, (100, 4))])).astype(np.float32)

    def radius(rows: np.ndarray) -> float:
        return float(np.linalg.norm(x[:, None] - x[rows][None], axis=2).min(axis=1).max())

    greedy = farthest_first(x, 60)
    random_choice = [radius(rng.choice(len(x), 60, replace=False)) for _ in range(5)]
    assert len(set(greedy.tolist())) == 60
    assert radius(greedy) < min(random_choice) / 2


def test_many_candidates_are_thinned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frame_selection, "MAX_DISTANCES", 20_000)
    poses = moving_poses(5000)
    poses = replace(poses, xy=poses.xy + np.random.default_rng(0).normal(0, 2, poses.xy.shape).astype(np.float32))
    selected = select_frames(poses, np.arange(1, 5000), 600)
    assert 599 <= len(selected) <= 600
    assert np.histogram(selected, 5, (0, 5000))[0].min() > 60


def test_missing_keypoints_do_not_look_like_rare_poses() -> None:
    poses = mostly_standing(1000, 10)
    missing = np.arange(100, 400)
    poses.score[missing, 5:9], poses.xy[missing, 5:9] = 0, np.nan
    selected = select_frames(poses, np.arange(1, 1000), 40)
    assert set(range(499, 510)) <= set(selected.tolist())


def test_features_do_not_depend_on_the_order_of_summation() -> None:
    """Features are whole numbers with exact sums of squares, so that the order of summation does not matter."""
    poses = moving_poses(500)
    x = frame_selection._features(poses)
    assert np.array_equal(x, np.rint(x))
    wide = x.astype(np.float64)
    far = ((wide[:, None] - wide[None, ::50]) ** 2).sum(axis=2)
    assert np.array_equal(far, ((x[:, None, ::-1] - x[None, ::50, ::-1]) ** 2).sum(axis=2))
    assert 2 * x.shape[1] * np.square(frame_selection.isqrt((1 << 24) // x.shape[1])) <= 1 << 25


def test_evenly_spaced() -> None:
    assert evenly_spaced(5, 5).tolist() == evenly_spaced(5, 9).tolist() == [0, 1, 2, 3, 4]
    assert evenly_spaced(9, 3).tolist() == [1, 4, 7]
    assert evenly_spaced(0, 3).tolist() == evenly_spaced(3, 0).tolist() == evenly_spaced(3, -1).tolist() == []
