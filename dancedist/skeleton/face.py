"""Boxes of the face and the body in a picture, from the pose."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dancedist.arrays import Box
from dancedist.pose.sequence import MIN_SCORE, PoseSequence
from dancedist.pose.topology import Topology

# Mean proportions of adults, as fractions of the height. Foreshortening makes a length only shorter, so the largest
# of the estimated heights is used.
_LENGTHS = {"torso": 0.29, "shoulders": 0.21, "thigh": 0.245, "shin": 0.245}
# Side of the face's box / height: the paper's crop has 128 px in a picture of 512 px, which the dancer fills.
_FACE_SIDE = 0.25
# The dancer's back is turned if the ears are mirrored by more than _BEHIND times their usual distance, _EARS heights.
_BEHIND = 0.25
_EARS = 0.09


def face_box(
    xy: NDArray[np.float32], score: NDArray[np.float32], topology: Topology, min_score: float = MIN_SCORE
) -> Box | None:
    """Square box (x0, y0, x1, y1) px around the nose; its side is a quarter of the dancer's height.

    xy float32 (K, 2) px, score float32 (K,) in [0, 1]. The box may extend beyond the picture. None if the face is not
    visible: nose or both eyes are absent, the dancer's back is turned, or no limb gives the scale.
    """
    point = _Points(xy, score, topology, min_score)
    height_px = _height_px(point)
    nose = point("nose")
    if nose is None or height_px is None or (point("left_eye") is None and point("right_eye") is None):
        return None
    if _back_of_head(point, height_px):
        return None
    half = _FACE_SIDE * height_px / 2
    return float(nose[0] - half), float(nose[1] - half), float(nose[0] + half), float(nose[1] + half)


def face_boxes(poses: PoseSequence) -> NDArray[np.float32]:
    """`face_box` of every frame, float32 (T, 4) px; NaN where no face is visible."""
    boxes = np.full((len(poses), 4), np.nan, np.float32)
    for t in np.flatnonzero(poses.present).tolist():
        box = face_box(poses.xy[t], poses.score[t], poses.topology)
        if box is not None:
            boxes[t] = box
    return boxes


def body_box(
    xy: NDArray[np.float32],
    score: NDArray[np.float32],
    topology: Topology,
    size: tuple[int, int],
    margin: float = 0.1,
    min_score: float = MIN_SCORE,
) -> Box | None:
    """Box (x0, y0, x1, y1) px of all present keypoints plus a margin, within the picture.

    xy float32 (K, 2) px, score float32 (K,) in [0, 1]; `size` (width, height) px; `margin` is a fraction of the box's
    longer side. x1 and y1 are exclusive edges. None if no keypoint is inside the picture.
    """
    assert len(xy) == len(topology), (len(xy), len(topology))
    present = xy[(score >= min_score) & np.isfinite(xy).all(axis=1)].astype(np.float64)
    if not len(present):
        return None
    low, high = present.min(axis=0), present.max(axis=0) + 1
    border = margin * (high - low).max()
    (x0, y0), (x1, y1) = np.clip(low - border, 0, size), np.clip(high + border, 0, size)
    return (float(x0), float(y0), float(x1), float(y1)) if x0 < x1 and y0 < y1 else None


class _Points:
    """Keypoints by name; None if one is absent or not in the topology."""

    def __init__(
        self, xy: NDArray[np.float32], score: NDArray[np.float32], topology: Topology, min_score: float
    ) -> None:
        self.xy, self.index = xy.astype(np.float64), topology.index
        self.present = (score >= min_score) & np.isfinite(xy).all(axis=1)

    def __call__(self, name: str) -> NDArray[np.float64] | None:
        i = self.index.get(name)
        return self.xy[i] if i is not None and self.present[i] else None

    def middle(self, name: str) -> NDArray[np.float64] | None:
        a, b = self(f"left_{name}"), self(f"right_{name}")
        return None if a is None or b is None else (a + b) / 2

    def distance(self, a: str, b: str) -> float:
        p, q = self(a), self(b)
        return 0.0 if p is None or q is None else float(np.hypot(*(p - q)))


def _height_px(point: _Points) -> float | None:
    shoulders, hips = point.middle("shoulder"), point.middle("hip")
    lengths = [
        (0.0 if shoulders is None or hips is None else float(np.hypot(*(shoulders - hips)))) / _LENGTHS["torso"],
        point.distance("left_shoulder", "right_shoulder") / _LENGTHS["shoulders"],
        *(point.distance(f"{s}_hip", f"{s}_knee") / _LENGTHS["thigh"] for s in ("left", "right")),
        *(point.distance(f"{s}_knee", f"{s}_ankle") / _LENGTHS["shin"] for s in ("left", "right")),
    ]
    return max(lengths) or None


def _back_of_head(point: _Points, height_px: float) -> bool:
    """Whether the ears (else the eyes) are mirrored, for any rotation of the head in the picture."""
    shoulders = point.middle("shoulder")
    for part in ("ear", "eye"):
        left, right, middle = point(f"left_{part}"), point(f"right_{part}"), point.middle(part)
        if left is None or right is None or middle is None or shoulders is None:
            continue
        across, down = left - right, shoulders - middle
        length = float(np.hypot(*down))
        if length == 0:
            return False
        mirrored = (across[1] * down[0] - across[0] * down[1]) / length
        return bool(mirrored > _BEHIND * _EARS * height_px)
    return False
