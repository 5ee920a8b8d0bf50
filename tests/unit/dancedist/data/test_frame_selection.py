from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from dancedist.data import frame_selection
from dancedist.data.frame_selection import best_spread, evenly, farthest_first
from dancedist.pose.sequence import PoseSequence
from tests.unit.conftest import moving_poses


def standing_then(frames: int, moves: int) -> PoseSequence:
    """Stands still, but for `moves` frames in the middle in which the whole body goes elsewhere."""
    poses = moving_poses(frames)
    xy = np.broadcast_to(poses.xy[0], poses.xy.shape).copy()
    middle = slice(frames // 2, frames // 2 + moves)
    xy[middle] += np.random.default_rng(1).uniform(-12, 12, xy[middle].shape).astype(np.float32)
    return replace(poses, xy=xy)


def test_rare_poses_are_kept_before_common_ones() -> None:
    poses = standing_then(2000, 20)
    kept = best_spread(poses, np.arange(1, 2000), 60)
    assert set(range(999, 1020)) <= set(kept.tolist())
    assert 59 <= len(kept) <= 60


@pytest.mark.parametrize("budget", [0, 1, 2, 7, 100, 399, 400, 1000])
def test_the_budget_is_kept_and_used(budget: int) -> None:
    pairs = np.arange(1, 400)
    kept = best_spread(moving_poses(400), pairs, budget)
    assert len(np.unique(kept)) == len(kept) <= budget
    assert np.all(np.diff(kept) > 0)
    assert len(kept) >= min(budget, 400) - 1
    lone = [t for t in kept.tolist() if t - 1 not in kept and t + 1 not in kept]
    assert not lone, "a frame that no pair needs"


def test_only_frames_of_pairs_are_kept() -> None:
    pairs = np.array([5, 6, 30, 80])
    assert best_spread(moving_poses(100), pairs, 1000).tolist() == [4, 5, 6, 29, 30, 79, 80]


def test_farthest_first_covers_twice_as_well_as_chance() -> None:
    """Greedy k-centre is within a factor 2 of the best radius; chance leaves the rare corners out."""
    rng = np.random.default_rng(0)
    x = np.rint(np.concatenate([rng.normal(0, 5, (5000, 4)), rng.uniform(-100, 100, (100, 4))])).astype(np.float32)

    def radius(rows: np.ndarray) -> float:
        return float(np.linalg.norm(x[:, None] - x[rows][None], axis=2).min(axis=1).max())

    greedy = farthest_first(x, 60)
    chance = [radius(rng.choice(len(x), 60, replace=False)) for _ in range(5)]
    assert len(set(greedy.tolist())) == 60
    assert radius(greedy) < min(chance) / 2


def test_many_candidates_are_thinned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frame_selection, "MAX_DISTANCES", 20_000)
    poses = moving_poses(5000)
    poses = replace(poses, xy=poses.xy + np.random.default_rng(0).normal(0, 2, poses.xy.shape).astype(np.float32))
    kept = best_spread(poses, np.arange(1, 5000), 600)
    assert 599 <= len(kept) <= 600
    assert np.histogram(kept, 5, (0, 5000))[0].min() > 60


def test_absent_keypoints_do_not_look_like_rare_poses() -> None:
    poses = standing_then(1000, 10)
    missing = np.arange(100, 400)
    poses.score[missing, 5:9], poses.xy[missing, 5:9] = 0, np.nan
    kept = best_spread(poses, np.arange(1, 1000), 40)
    assert set(range(499, 510)) <= set(kept.tolist())


def test_the_same_frames_in_any_order_of_summing() -> None:
    """Features are whole numbers whose sums of squares are exact, so that no processor's way of summing tells."""
    poses = moving_poses(500)
    x = frame_selection._features(poses)
    assert np.array_equal(x, np.rint(x))
    wide = x.astype(np.float64)
    far = ((wide[:, None] - wide[None, ::50]) ** 2).sum(axis=2)
    assert np.array_equal(far, ((x[:, None, ::-1] - x[None, ::50, ::-1]) ** 2).sum(axis=2))
    assert 2 * x.shape[1] * np.square(frame_selection.isqrt((1 << 24) // x.shape[1])) <= 1 << 25


def test_evenly() -> None:
    assert evenly(5, 5).tolist() == evenly(5, 9).tolist() == [0, 1, 2, 3, 4]
    assert evenly(9, 3).tolist() == [1, 4, 7]
    assert evenly(0, 3).tolist() == evenly(3, 0).tolist() == evenly(3, -1).tolist() == []
