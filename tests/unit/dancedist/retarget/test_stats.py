from __future__ import annotations

import json
from collections import Counter
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dancedist.errors import FileInvalid, NoDancer
from dancedist.pose.sequence import PoseSequence
from dancedist.pose.topology import HALPE26
from dancedist.recipe.schema import RetargetRecipe
from dancedist.retarget.ground_contact import ground_contact, person_height
from dancedist.retarget.stats import BINS_PER_SIDE, RetargetStats

RECIPE = RetargetRecipe()
FPS = 25


def stand(ground, height, x=320.0, size=(640, 480)) -> PoseSequence:
    """Poses of an upright person with the given row of the ankles, height and column, (T,) px each."""
    ground, height, x = np.broadcast_arrays(*(np.atleast_1d(np.asarray(v, np.float64)) for v in (ground, height, x)))
    xy = np.full((len(ground), 26, 2), np.nan, np.float32)
    for name, fraction, offset in (("left_ankle", 0, 0.05), ("right_ankle", 0, -0.05), ("head_top", 1, 0)):
        xy[:, HALPE26.index[name]] = np.stack([x + offset * height, ground - fraction * height], axis=1)
    score = np.isfinite(xy).all(axis=2).astype(np.float32)
    return PoseSequence(xy, score, HALPE26, Fraction(FPS), size)


def counts(rng: np.random.Generator, frames: int = 40) -> RetargetStats:
    return RetargetStats.of(stand(rng.uniform(300, 400, frames), rng.uniform(200, 250, frames), rng.uniform(0, 640, 1)))


@given(st.integers(0, 2**32 - 1))
def test_merging_is_exact_in_any_order(seed):
    rng = np.random.default_rng(seed)
    a, b, c = (counts(rng) for _ in range(3))
    assert (a + b) + c == a + (b + c) == (c + b) + a
    assert ((a + b) + c).derive(RECIPE) == ((c + a) + b).derive(RECIPE)
    assert (a + b).depth.total() == (a + b).x.total() == 80


def test_close_far_and_their_heights_follow_the_paper():
    # Frames at the median, then a slow walk to the camera and one away from it, beyond the paper's far position.
    ground = np.concatenate([np.full(200, 350.0), np.linspace(350, 380, 100), np.linspace(380, 270, 300)])
    depth = RetargetStats.of(stand(ground, ground * 0.6)).derive(RECIPE)
    assert depth.median_y == pytest.approx(np.median(ground), abs=0.5)
    assert depth.close_y == pytest.approx(380, abs=1)
    median = depth.median_y
    assert depth.far_y == pytest.approx(median - 0.7 * (depth.close_y - median), abs=0.7)
    band = 0.05 * depth.length
    assert depth.close_height == pytest.approx(380 * 0.6, abs=0.5)
    assert depth.far_height == pytest.approx((depth.far_y + band) * 0.6, abs=0.5), "the largest height within the band"
    assert depth.median_x == pytest.approx(320, abs=0.05)


def test_far_does_not_depend_on_the_time_of_a_frame_but_on_gaps():
    def far(*rows: float) -> float:
        """far_y for frames at `rows`; with median 350 and close 400, the paper's edge is at 315."""
        stats = RetargetStats.of(stand([350.0], 200.0))
        bins = {p: round(p * BINS_PER_SIDE / 640) for p in rows}
        depth = Counter({(bins[p], 20000): 100 if p == 350 else 1 for p in rows})
        return RetargetStats(stats.topology, stats.size, depth, stats.x).derive(RECIPE).far_y

    assert far(350, 400, 316, 300) == pytest.approx(316, abs=0.02), "with a gap: the paper's minimum"
    assert far(350, 400, 316, 314) == pytest.approx(315, abs=0.02), "without a gap: the edge"
    assert far(350, 400, 316, 314.99) == pytest.approx(far(350, 400, 316, 315.01), abs=0.05)


def test_a_dancer_without_movement_in_depth_has_no_range():
    depth = RetargetStats.of(stand(np.full(50, 400.0), 200.0)).derive(RECIPE)
    assert depth.length == 0 and depth.far_height == depth.close_height == pytest.approx(200, abs=0.05)
    assert depth.height_at(123.0) == depth.close_height


def test_crouching_at_the_ends_of_the_range_does_not_reduce_the_height():
    ground = np.repeat([400.0, 402.0, 404.0, 402.0], 50)
    height = np.where(ground == 402, 200.0, 120.0)
    depth = RetargetStats.of(stand(ground, height)).derive(RECIPE)
    assert depth.close_height > 190 and depth.far_height > 190


def test_a_jump_does_not_move_the_ground():
    ground = np.full(100, 400.0)
    feet = ground.copy()
    feet[40:54] -= 60 * np.sin(np.linspace(0, np.pi, 14))
    assert ground_contact(stand(feet, 200.0)) == pytest.approx(ground, abs=1e-6)


def test_a_walk_in_depth_moves_the_ground():
    ground = 400 - 60 * np.sin(np.linspace(0, 2 * np.pi, 250))
    assert np.abs(ground_contact(stand(ground, 200.0)) - ground).max() < 8
    slope = np.linspace(300, 400, 250)
    assert np.abs(ground_contact(stand(slope, 200.0)) - slope)[20:-20].max() < 0.5


def test_a_lifted_foot_does_not_move_the_ground():
    poses = stand(np.full(60, 400.0), 200.0)
    poses.xy[:, HALPE26.index["left_ankle"], 1] -= 50
    assert ground_contact(poses) == pytest.approx(np.full(60, 400.0))


def test_frames_without_ankles_are_interpolated_and_not_counted():
    ground = np.linspace(300, 400, 100)
    poses = stand(ground, 200.0)
    poses.score[30:50] = 0
    poses.xy[60:64] = np.nan
    assert np.abs(ground_contact(poses) - ground)[15:-15].max() < 1.5
    stats = RetargetStats.of(poses)
    assert stats.depth.total() == stats.x.total() == 76


def test_poses_without_person_or_head_are_refused():
    nobody = stand(np.full(5, np.nan), 200.0)
    assert np.isnan(ground_contact(nobody)).all()
    headless = stand(np.full(5, 400.0), 200.0)
    headless.score[:, HALPE26.index["head_top"]] = 0
    assert np.isnan(person_height(headless)).all()
    for poses in (nobody, headless, nobody.slice(0, 0)):
        with pytest.raises(NoDancer, match="head and ankles"):
            RetargetStats.of(poses).derive(RECIPE)


def test_one_wrong_frame_does_not_change_the_height():
    height = np.full(50, 200.0)
    height[20] = 390
    assert RetargetStats.of(stand(np.full(50, 400.0), height)).derive(RECIPE).close_height == pytest.approx(
        200, abs=0.1
    )


def test_statistics_survive_json():
    stats = counts(np.random.default_rng(1))
    assert RetargetStats.from_dict(json.loads(json.dumps(stats.to_dict()))) == stats
    with pytest.raises(FileInvalid, match="expected"):
        RetargetStats.from_dict({**stats.to_dict(), "version": 99})
    with pytest.raises(FileInvalid, match="expected"):
        RetargetStats.from_dict({})
