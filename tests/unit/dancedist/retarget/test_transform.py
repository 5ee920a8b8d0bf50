from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dancedist.errors import FileInvalid, NoDancer
from dancedist.pose.sequence import PoseSequence
from dancedist.pose.topology import COCO17, HALPE26
from dancedist.recipe.schema import RetargetRecipe
from dancedist.retarget.ground_contact import ground_contact
from dancedist.retarget.stats import RetargetStats
from dancedist.retarget.transform import _shift_into_frame_px, retarget

RECIPE = RetargetRecipe()
ANKLES = [HALPE26.index["left_ankle"], HALPE26.index["right_ankle"]]


def dance(seed=0, frames=240, ground_px=400.0, height_px=250.0, depth=0.12, size=(640, 480), jump=0.0) -> PoseSequence:
    """A person who sways and walks in depth by `depth` of their height, seen by a camera at half their height."""
    rng = np.random.default_rng(seed)
    t = np.arange(frames) / 25
    phase, rates = rng.uniform(0, 6, (26, 2, 2)), rng.uniform(0.5, 2, (26, 2, 2))
    body = np.concatenate([rng.uniform(-0.25, 0.25, (26, 1)), rng.uniform(0.1, 0.95, (26, 1))], axis=1)
    body = body + 0.03 * np.sin(rates * t[:, None, None, None] + phase).sum(axis=-1)
    body[:, ANKLES] = [[-0.1, 0.0], [0.1, 0.0]]
    body[:, HALPE26.index["head_top"]] = [0.0, 1.0]
    ground = ground_px + depth * height_px * np.sin(0.7 * t + rng.uniform(0, 6))
    height = height_px + 2 * (ground - ground_px)
    lift = jump * height * np.clip(np.sin(2.2 * t), 0.8, 1) if jump else 0 * t
    x = size[0] / 2 + 40 + 0.3 * height_px * np.sin(0.9 * t)
    xy = np.stack([x[:, None] + body[..., 0] * height[:, None],
                   (ground - lift)[:, None] - body[..., 1] * height[:, None]], axis=2)  # fmt: skip
    return PoseSequence(xy.astype(np.float32), np.full((frames, 26), 0.9, np.float32), HALPE26, Fraction(25), size)


TARGET = dance(seed=7, ground_px=300, height_px=180, depth=0.1, size=(400, 360))


def retargeted(target, source, recipe=RECIPE):
    return retarget(source, RetargetStats.of(source), RetargetStats.of(target), recipe, target.size)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1000), depth=st.sampled_from([0.0, 0.01, 0.1, 0.3]), align_x=st.booleans())
def test_a_source_equal_to_the_target_is_unchanged(seed, depth, align_x):
    source = dance(seed, depth=depth, jump=0.1 * (seed % 2))
    out = retargeted(source, source, RetargetRecipe(align_x=align_x))
    assert np.abs(out.xy - source.xy).max() < 1e-3


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1000), dx=st.floats(-500, 500), dy=st.floats(-500, 500))
def test_the_result_is_invariant_to_shifts_of_the_source(seed, dx, dy):
    source = dance(seed)
    moved = replace(source, xy=source.xy + np.array([dx, dy], np.float32))
    assert np.abs(retargeted(TARGET, moved).xy - retargeted(TARGET, source).xy).max() < 0.15


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1000), scale=st.floats(0.2, 5), frame_too=st.booleans())
def test_the_result_is_invariant_to_scaling_of_the_source(seed, scale, frame_too):
    source = dance(seed)
    size = (round(640 * scale), round(480 * scale)) if frame_too else source.size
    scaled = replace(source, xy=source.xy * np.float32(scale), size=size)
    assert np.abs(retargeted(TARGET, scaled).xy - retargeted(TARGET, source).xy).max() < 0.15


def test_the_result_has_the_targets_height_and_ground():
    source = dance(1, ground_px=900, height_px=700, depth=0.2, size=(1920, 1080))
    out = retargeted(TARGET, source)
    s, t = (RetargetStats.of(p).derive(RECIPE) for p in (source, TARGET))
    feet = out.xy[:, ANKLES, 1].mean(axis=1)
    ground = ground_contact(source)
    inner = (ground >= s.far_y) & (ground <= s.close_y)
    assert inner.any()
    # The expected ground is eq. 8 itself.
    expected = t.far_y + (ground - s.far_y) / (s.close_y - s.far_y) * (t.close_y - t.far_y)
    assert np.abs(feet - expected)[inner].max() < 2.0
    height = feet - out.xy[:, HALPE26.index["head_top"], 1]
    near = inner & (np.abs(ground - s.close_y) < 0.05 * s.length)
    assert height[near].mean() == pytest.approx(t.close_height, rel=0.02)
    assert out.size == TARGET.size and out.fps == source.fps
    assert np.median(out.xy[:, ANKLES, 0]) == pytest.approx(np.median(TARGET.xy[:, ANKLES, 0]), abs=6)


def test_a_source_without_movement_in_depth_is_in_the_middle_at_one_scale():
    source = dance(2, depth=0.0)
    out = retargeted(TARGET, source)
    t = RetargetStats.of(TARGET).derive(RECIPE)
    feet, head = out.xy[:, ANKLES, 1], out.xy[:, HALPE26.index["head_top"], 1]
    assert np.ptp(feet) < 0.01 and feet.mean() == pytest.approx(t.middle_y, abs=0.1)
    assert np.ptp(head) < 0.01 and (feet[0, 0] - head[0]) == pytest.approx(t.height_at(t.middle_y), rel=1e-3)


def test_ankle_noise_is_not_amplified():
    source = dance(2, depth=0.0)
    rng = np.random.default_rng(0)
    source.xy[:, ANKLES, 1] += rng.normal(0, 1.0, (len(source), 2)).astype(np.float32)
    out = retargeted(dance(3, depth=0.3, size=(640, 480)), source)
    assert np.ptp(ground_contact(out)) < 3 * np.ptp(ground_contact(source))


def test_the_scale_is_limited_beyond_far():
    source = dance(4, depth=0.05)
    away = dance(4, frames=20, ground_px=40, height_px=40, depth=0.0)
    both = replace(source, xy=np.concatenate([source.xy, away.xy]), score=np.concatenate([source.score, away.score]))
    out = retargeted(TARGET, both)
    height = ground_contact(out) - out.xy[:, HALPE26.index["head_top"], 1]
    assert np.isfinite(out.xy).all() and (height > 0).all() and height.max() < 2 * 180


def test_feet_stay_on_the_ground_and_jumps_scale_with_the_height():
    source = dance(5, depth=0.0, jump=0.2)
    out = retargeted(TARGET, source)
    ground = ground_contact(out)
    assert np.ptp(ground) < 1.0, "the ground does not jump"
    rise = (ground - out.xy[:, ANKLES, 1].max(axis=1)) / RetargetStats.of(TARGET).derive(RECIPE).close_height
    expected = (ground_contact(source) - source.xy[:, ANKLES, 1].max(axis=1)) / 250
    assert rise.max() > 0.03 and rise == pytest.approx(expected, abs=0.01)


def test_without_align_x_the_frames_centres_are_aligned():
    source = dance(6, size=(640, 480))
    off = retargeted(TARGET, source, RetargetRecipe(align_x=False))
    on = retargeted(TARGET, source)
    shift = (on.xy - off.xy)[..., 0]
    assert np.abs(shift).min() > 1, "the dancers' medians are not at their frames' centres"
    wider = replace(source, xy=source.xy + np.array([50, 0], np.float32), size=(740, 480))
    assert retargeted(TARGET, wider, RetargetRecipe(align_x=False)).xy == pytest.approx(off.xy, abs=0.5)


def test_scores_are_preserved_and_absent_frames_stay_absent():
    source = dance(8)
    source.xy[50:60], source.score[50:60] = np.nan, 0
    source.score[70, 3] = 0.123
    out = retargeted(TARGET, source)
    assert np.array_equal(out.score, source.score)
    assert np.isnan(out.xy[50:60]).all() and np.isfinite(out.xy[60:]).all() and np.isfinite(out.xy[:50]).all()
    missing = dance(8)
    missing.xy[100:110][:, ANKLES], missing.score[100:110, ANKLES] = np.nan, 0
    assert np.isfinite(retargeted(TARGET, missing).xy[100:110, 0]).all(), "the ground is interpolated"


def test_a_dance_that_leaves_the_frame_has_a_notice():
    source = dance(9)
    source.xy[100:200, :, 0] += 900
    notices = retargeted(TARGET, source).notices
    assert [n.slug for n in notices] == ["outside-frame"] and notices[0].frame == 100
    assert not retargeted(TARGET, TARGET).notices


def test_the_fingerprint_depends_on_source_target_and_recipe():
    a, b = dance(1), dance(2)
    fingerprints = {retargeted(t, s, r).fingerprint for t in (a, b) for s in (a, replace(a, fingerprint="x"))
              for r in (RECIPE, RetargetRecipe(align_x=False))}  # fmt: skip
    assert len(fingerprints) == 8
    assert retargeted(a, b).fingerprint == retargeted(a, b).fingerprint


def test_other_layouts_and_empty_poses_are_refused():
    k = len(COCO17)
    other = PoseSequence(TARGET.xy[:, :k], TARGET.score[:, :k], COCO17, TARGET.fps, TARGET.size)
    with pytest.raises(FileInvalid, match="halpe26"):
        retargeted(TARGET, other)
    nobody = replace(TARGET, xy=TARGET.xy * np.nan, score=TARGET.score * 0)
    with pytest.raises(NoDancer):
        retargeted(TARGET, nobody)


@pytest.mark.parametrize(("x", "shift"), [((10, 90), 0), ((-5, 60), 5), ((40, 109), -10), ((-30, 109), 0)])
def test_the_smallest_shift_into_the_frame_is_used(x, shift):
    assert _shift_into_frame_px(np.repeat(np.array(x, float), 500), 100) == pytest.approx(shift, abs=0.6)


def test_absent_keypoints_give_no_shift():
    assert _shift_into_frame_px(np.array([np.nan]), 100) == 0
