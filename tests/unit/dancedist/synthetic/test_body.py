from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dancedist.pose.topology import HALPE26
from dancedist.synthetic import ARMS, LEGS, Camera, Dance, Proportions, joints, routine

AT = HALPE26.index
BEATS = np.linspace(0, 16, 200)

dances = st.builds(
    Dance,
    arms=st.sampled_from(sorted(ARMS)),
    legs=st.sampled_from(sorted(LEGS)),
    turn_deg=st.floats(-20, 20),
    depth_m=st.floats(-0.4, 0.4),
    seed=st.integers(0, 9),
)


def bone(xyz: np.ndarray, a: str, b: str) -> np.ndarray:
    return np.linalg.norm(xyz[:, AT[a]] - xyz[:, AT[b]], axis=1)


@settings(max_examples=25, deadline=None)
@given(dances)
def test_bones_have_constant_length_in_every_dance(dance: Dance) -> None:
    p = Proportions()
    xyz = joints(p, dance.motion(BEATS))
    assert np.isfinite(xyz).all()
    for side in ("left", "right"):
        for a, b, length in (
            ("shoulder", "elbow", p.upper_arm),
            ("elbow", "wrist", p.forearm),
            ("hip", "knee", p.thigh),
            ("knee", "ankle", p.shin),
        ):
            np.testing.assert_allclose(bone(xyz, f"{side}_{a}", f"{side}_{b}"), length, atol=1e-6)
    assert xyz[:, [AT["left_heel"], AT["right_heel"]], 1].min() > -0.06  # the feet stay above the floor


@settings(max_examples=25, deadline=None)
@given(dances)
def test_the_dancer_faces_the_camera_with_the_left_on_the_pictures_right(dance: Dance) -> None:
    xyz = joints(Proportions(), dance.motion(BEATS))
    for name in ("eye", "ear", "shoulder", "hip"):
        assert (xyz[:, AT[f"left_{name}"], 0] > xyz[:, AT[f"right_{name}"], 0]).all()
    ears = (xyz[:, AT["left_ear"]] + xyz[:, AT["right_ear"]]) / 2
    assert (xyz[:, AT["nose"], 2] > ears[:, 2]).all()


def test_near_dancers_are_larger_and_lower() -> None:
    size = (400, 480)
    xyz = joints(Proportions(), Dance("wave", "bounce", side_m=0).motion(np.zeros(1)))
    far, near = (Camera().project(xyz + np.array([0, 0, z]), size)[0] for z in (-0.5, 0.5))
    assert near[AT["left_ankle"], 1] > far[AT["left_ankle"], 1]
    assert np.ptp(near[:, 1]) == pytest.approx(np.ptp(far[:, 1]) * 5.1 / 4.1, rel=0.05)


def test_a_routine_blends_from_dance_to_dance() -> None:
    dances_in_turn = [Dance("wave", "squat"), Dance("on_hips", "kick_side", depth_m=0.3)]
    motion = routine(dances_in_turn, 4.0, 25.0, 100.0)
    assert motion.shape[0] == 200
    xy = Camera().project(joints(Proportions(), motion), (400, 480))
    steps = np.abs(np.diff(xy, axis=0)).max(axis=(1, 2))
    assert steps.max() < 25
    beats = np.arange(200) / 25 * 100 / 60
    np.testing.assert_allclose(motion[:80], dances_in_turn[0].motion(beats[:80]))
    np.testing.assert_allclose(motion[120:], dances_in_turn[1].motion(beats[120:]))


def test_moves_differ_from_each_other() -> None:
    poses = [joints(Proportions(), Dance(arms, "bounce").motion(BEATS)) for arms in ARMS]
    poses += [joints(Proportions(), Dance("wave", legs).motion(BEATS)) for legs in LEGS if legs != "bounce"]
    for i, one in enumerate(poses):
        for other in poses[:i]:
            assert np.abs(one - other).max() > 0.05
