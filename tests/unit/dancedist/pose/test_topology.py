from __future__ import annotations

import numpy as np
import pytest

from dancedist.pose.topology import COCO17, HALPE26, OPENPOSE25, TOPOLOGIES, WHOLEBODY133, Topology, convert

SIZES = {"coco17": 17, "halpe26": 26, "wholebody133": 133, "openpose25": 25}


def named_pose(topology: Topology) -> tuple[np.ndarray, np.ndarray]:
    """A pose whose positions depend on the keypoint names only, in every layout; score 0.5."""
    seed = [sum(name.encode()) for name in topology.names]
    return np.array([[s, 2 * s] for s in seed], np.float32), np.full(len(topology), 0.5, np.float32)


@pytest.mark.parametrize("topology", TOPOLOGIES.values(), ids=lambda t: t.name)
def test_keypoints_are_unique_and_all_are_joined_by_limbs(topology: Topology) -> None:
    assert len(topology) == len(set(topology.names)) == SIZES[topology.name]
    ends = topology.limb_indices
    assert (ends[:, 0] != ends[:, 1]).all()
    assert len({frozenset(limb) for limb in topology.limbs}) == len(topology.limbs)
    joined = set(ends.ravel().tolist())
    assert {topology.names[i] for i in set(range(len(topology))) - joined} == set()


@pytest.mark.parametrize("topology", [HALPE26, WHOLEBODY133])
def test_layouts_begin_with_coco17(topology: Topology) -> None:
    assert topology.names[:17] == COCO17.names


def test_known_keypoint_indices() -> None:
    assert [HALPE26.index[n] for n in ("head_top", "neck", "hip", "right_heel")] == [17, 18, 19, 25]
    assert [OPENPOSE25.index[n] for n in ("neck", "hip", "left_ankle", "right_heel")] == [1, 8, 14, 24]
    assert [WHOLEBODY133.index[n] for n in ("left_big_toe", "face_0", "left_hand_0", "right_hand_20")] == [
        17,
        23,
        91,
        132,
    ]


def test_conversion_preserves_common_keypoints() -> None:
    for source in (COCO17, HALPE26, WHOLEBODY133):
        for to in TOPOLOGIES.values():
            xy, score = convert(*named_pose(source), source, to)
            expected, _ = named_pose(to)
            common = [i for i, name in enumerate(to.names) if name in source.index]
            np.testing.assert_array_equal(xy[common], expected[common])
            missing = [i for i, n in enumerate(to.names) if n not in source.index and n not in ("neck", "hip")]
            assert np.isnan(xy[missing]).all()
            assert (score[missing] == 0).all()


def test_missing_neck_and_hip_are_derived() -> None:
    xy, score = named_pose(COCO17)
    score[COCO17.index["left_hip"]] = 0.1
    out_xy, out_score = convert(np.stack([xy, xy]), np.stack([score, score]), COCO17, OPENPOSE25)
    shoulders = xy[[COCO17.index["left_shoulder"], COCO17.index["right_shoulder"]]]
    np.testing.assert_array_equal(out_xy[:, OPENPOSE25.index["neck"]], np.stack([shoulders.mean(0)] * 2))
    assert out_score[1, OPENPOSE25.index["hip"]] == np.float32(0.1)


def test_absent_keypoints_stay_absent() -> None:
    xy, score = convert(np.full((17, 2), np.nan, np.float32), np.zeros(17, np.float32), COCO17, HALPE26)
    assert np.isnan(xy).all()
    assert (score == 0).all()
