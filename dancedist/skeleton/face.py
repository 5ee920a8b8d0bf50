"""Where the face and the body are in a picture, told from the pose."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dancedist.pose.sequence import PoseSequence
from dancedist.pose.topology import Topology

Box = tuple[float, float, float, float]

MIN_SCORE = 0.3
# Mean proportions of adults, as parts of the height: what the box is scaled with. Each is shortened when it
# points at the camera, never lengthened, so the largest estimate is taken.
_LENGTHS = {"torso": 0.29, "shoulders": 0.21, "thigh": 0.245, "shin": 0.245}
# The paper's crop: 128 px in a picture 512 px high that the dancer fills.
_FACE_SIDE = 0.25
# Ears this far in the wrong order, in their own distance's usual length (0.09 of the height): the back of the head.
_BEHIND = 0.25
_EARS = 0.09


def face_box(
    xy: NDArray[np.float32], score: NDArray[np.float32], topology: Topology, min_score: float = MIN_SCORE
) -> Box | None:
    """Square (x0, y0, x1, y1) px round the nose, its side a quarter of the dancer's height.

    xy (K, 2) px, score (K,). May reach beyond the picture. None where no face is seen: nose or both eyes are
    absent, the dancer's back is turned, or nothing of the body tells the scale.
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
    """(T, 4) `face_box` of every frame, px; NaN where no face is seen."""
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
    """(x0, y0, x1, y1) px that holds all seen keypoints and a margin, within the picture.

    xy (K, 2) px, score (K,); `size` (width, height) px; `margin` is a part of the box's longer side. x1 and y1
    are exclusive edges. None where nothing is seen inside the picture.
    """
    assert len(xy) == len(topology), (len(xy), len(topology))
    seen = xy[(score >= min_score) & np.isfinite(xy).all(axis=1)].astype(np.float64)
    if not len(seen):
        return None
    low, high = seen.min(axis=0), seen.max(axis=0) + 1
    border = margin * (high - low).max()
    (x0, y0), (x1, y1) = np.clip(low - border, 0, size), np.clip(high + border, 0, size)
    return (float(x0), float(y0), float(x1), float(y1)) if x0 < x1 and y0 < y1 else None


class _Points:
    """Keypoints by name; None where one is not seen or the topology lacks it."""

    def __init__(
        self, xy: NDArray[np.float32], score: NDArray[np.float32], topology: Topology, min_score: float
    ) -> None:
        self.xy, self.index = xy.astype(np.float64), topology.index
        self.seen = (score >= min_score) & np.isfinite(xy).all(axis=1)

    def __call__(self, name: str) -> NDArray[np.float64] | None:
        i = self.index.get(name)
        return self.xy[i] if i is not None and self.seen[i] else None

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
    """Whether the ears (else the eyes) lie mirrored, however the head is turned in the picture."""
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
