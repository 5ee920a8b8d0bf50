"""Keypoint layouts (topologies): the names of the keypoints and the limbs that join them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

_COCO17 = (
    "nose left_eye right_eye left_ear right_ear left_shoulder right_shoulder left_elbow right_elbow left_wrist "
    "right_wrist left_hip right_hip left_knee right_knee left_ankle right_ankle"
).split()
_HALPE26 = [
    *_COCO17,
    *"head_top neck hip left_big_toe right_big_toe left_small_toe right_small_toe left_heel right_heel".split(),
]
_FEET = "left_big_toe left_small_toe left_heel right_big_toe right_small_toe right_heel".split()
_WHOLEBODY133 = [
    *_COCO17,
    *_FEET,
    *(f"face_{i}" for i in range(68)),
    *(f"left_hand_{i}" for i in range(21)),
    *(f"right_hand_{i}" for i in range(21)),
]
# OpenPose's BODY_25, the paper's layout.
_OPENPOSE25 = (
    "nose neck right_shoulder right_elbow right_wrist left_shoulder left_elbow left_wrist hip right_hip right_knee "
    "right_ankle left_hip left_knee left_ankle right_eye left_eye right_ear left_ear left_big_toe left_small_toe "
    "left_heel right_big_toe right_small_toe right_heel"
).split()

_TRUNK = (
    "neck-left_shoulder neck-right_shoulder left_shoulder-left_elbow left_elbow-left_wrist "
    "right_shoulder-right_elbow right_elbow-right_wrist neck-hip hip-left_hip hip-right_hip left_hip-left_knee "
    "left_knee-left_ankle right_hip-right_knee right_knee-right_ankle neck-nose nose-left_eye nose-right_eye "
    "left_eye-left_ear right_eye-right_ear"
)
_TRUNK17 = (
    "left_shoulder-right_shoulder left_shoulder-left_elbow left_elbow-left_wrist right_shoulder-right_elbow "
    "right_elbow-right_wrist left_shoulder-left_hip right_shoulder-right_hip left_hip-right_hip left_hip-left_knee "
    "left_knee-left_ankle right_hip-right_knee right_knee-right_ankle nose-left_eye nose-right_eye "
    "left_eye-left_ear right_eye-right_ear"
)
_FOOT_LIMBS = (
    "left_ankle-left_heel left_ankle-left_big_toe left_big_toe-left_small_toe "
    "right_ankle-right_heel right_ankle-right_big_toe right_big_toe-right_small_toe"
)


@dataclass(frozen=True)
class Topology:
    """A keypoint layout: `names` in order, `limbs` as pairs of names."""

    name: str
    names: tuple[str, ...]
    limbs: tuple[tuple[str, str], ...]

    def __len__(self) -> int:
        return len(self.names)

    @cached_property
    def index(self) -> dict[str, int]:
        """Keypoint name -> its index."""
        return {name: i for i, name in enumerate(self.names)}

    @cached_property
    def limb_indices(self) -> NDArray[np.int64]:
        """int64 (L, 2): keypoint indices of the limbs' ends."""
        return np.array([[self.index[a], self.index[b]] for a, b in self.limbs], dtype=np.int64)


def _limbs(text: str) -> tuple[tuple[str, str], ...]:
    pairs = (pair.split("-") for pair in text.split())
    return tuple((a, b) for a, b in pairs)


def _hand(side: str) -> str:
    fingers = ([0, *range(first, first + 4)] for first in (1, 5, 9, 13, 17))
    joined = " ".join(f"{side}_hand_{a}-{side}_hand_{b}" for f in fingers for a, b in pairwise(f))
    return f"{side}_wrist-{side}_hand_0 {joined}"


def _face() -> str:
    # iBUG-68 contours (start, stop, closed): jaw, brows, nose bridge, nose base, eyes, lips.
    runs = [(0, 17, 0), (17, 22, 0), (22, 27, 0), (27, 31, 0), (31, 36, 0), (36, 42, 1), (42, 48, 1), (48, 60, 1)]
    runs.append((60, 68, 1))
    pairs = [(i, i + 1) for a, b, _ in runs for i in range(a, b - 1)] + [(b - 1, a) for a, b, closed in runs if closed]
    return " ".join(f"face_{a}-face_{b}" for a, b in pairs)


COCO17 = Topology("coco17", tuple(_COCO17), _limbs(_TRUNK17))
HALPE26 = Topology("halpe26", tuple(_HALPE26), _limbs(f"{_TRUNK} {_FOOT_LIMBS} nose-head_top"))
WHOLEBODY133 = Topology(
    "wholebody133",
    tuple(_WHOLEBODY133),
    _limbs(f"{_TRUNK17} {_FOOT_LIMBS} {_face()} {_hand('left')} {_hand('right')}"),
)
OPENPOSE25 = Topology("openpose25", tuple(_OPENPOSE25), _limbs(f"{_TRUNK} {_FOOT_LIMBS}"))

TOPOLOGIES = {t.name: t for t in (COCO17, HALPE26, WHOLEBODY133, OPENPOSE25)}

# Keypoints that are derived as the midpoint of two others where a layout lacks them.
_MIDPOINTS = {"neck": ("left_shoulder", "right_shoulder"), "hip": ("left_hip", "right_hip")}


def convert(
    xy: NDArray[np.float32], score: NDArray[np.float32], source: Topology, to: Topology
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Convert poses from one layout to another.

    xy float32 (..., K, 2) px and score float32 (..., K) in [0, 1] -> both in `to`'s order. Where `source` has no neck
    or hip, they are the midpoints of shoulders and hips, with the lower score; other missing keypoints are absent
    (NaN, score 0).
    """
    out_xy = np.full((*xy.shape[:-2], len(to), 2), np.nan, np.float32)
    out_score = np.zeros((*score.shape[:-1], len(to)), np.float32)
    for i, name in enumerate(to.names):
        if name in source.index:
            out_xy[..., i, :] = xy[..., source.index[name], :]
            out_score[..., i] = score[..., source.index[name]]
        elif name in _MIDPOINTS:
            a, b = (source.index[part] for part in _MIDPOINTS[name])
            out_xy[..., i, :] = (xy[..., a, :] + xy[..., b, :]) / 2
            out_score[..., i] = np.minimum(score[..., a], score[..., b])
    return out_xy, out_score
