from __future__ import annotations

import numpy as np
import pytest

from dancedist.pose.topology import HALPE26
from dancedist.skeleton.face import body_box, face_box

# A person of 200 px height who faces the camera: the person's left is on the picture's right.
STANDING = {
    "nose": (100, 60), "left_eye": (104, 56), "right_eye": (96, 56), "left_ear": (109, 58), "right_ear": (91, 58),
    "left_shoulder": (121, 85), "right_shoulder": (79, 85), "left_hip": (110, 143), "right_hip": (90, 143),
    "left_knee": (110, 192), "right_knee": (90, 192), "left_ankle": (110, 240), "right_ankle": (90, 240),
}  # fmt: skip


def pose(points=STANDING):
    xy, score = np.full((26, 2), np.nan, np.float32), np.zeros(26, np.float32)
    for name, at in points.items():
        xy[HALPE26.index[name]], score[HALPE26.index[name]] = at, 1
    return xy, score


def rotated(xy, angle):
    c, s = np.cos(angle), np.sin(angle)
    return ((xy - 100) @ np.array([[c, s], [-s, c]]) + 100).astype(np.float32)


def test_the_face_box_is_a_square_around_the_nose_that_scales_with_the_person():
    xy, score = pose()
    x0, y0, x1, y1 = face_box(xy, score, HALPE26)
    assert x1 - x0 == pytest.approx(y1 - y0) == pytest.approx(50, rel=0.05)
    assert ((x0 + x1) / 2, (y0 + y1) / 2) == pytest.approx((100, 60))
    larger = face_box(xy * 3 + 7, score, HALPE26)
    assert larger == pytest.approx([v * 3 + 7 for v in (x0, y0, x1, y1)], rel=1e-5)


def test_a_bent_body_does_not_change_the_face_size():
    xy, score = pose({**STANDING, "left_hip": (110, 100), "right_hip": (90, 100)})
    x0, _, x1, _ = face_box(xy, score, HALPE26)
    assert x1 - x0 > 45


@pytest.mark.parametrize("angle", [0.0, 1.0, 2.0, 3.14, -1.5])
def test_from_behind_there_is_no_face_at_any_rotation(angle):
    xy, score = pose()
    assert face_box(rotated(xy, angle), score, HALPE26) is not None
    mirrored = xy * [-1, 1] + np.array([200, 0], np.float32)
    assert face_box(rotated(mirrored, angle), score, HALPE26) is None


def test_in_profile_the_face_is_visible():
    profile = {**STANDING, "left_ear": (99, 58), "right_ear": (100, 58), "left_eye": (106, 56), "right_eye": (106, 56)}
    assert face_box(*pose(profile), HALPE26) is not None


@pytest.mark.parametrize("missing", [("nose",), ("left_eye", "right_eye")])
def test_without_nose_or_eyes_there_is_no_face(missing):
    xy, score = pose()
    score[[HALPE26.index[n] for n in missing]] = 0.1
    assert face_box(xy, score, HALPE26) is None


def test_without_a_limb_for_the_scale_there_is_no_face():
    assert face_box(*pose({k: v for k, v in STANDING.items() if k in ("nose", "left_eye")}), HALPE26) is None
    assert face_box(*pose({}), HALPE26) is None


def test_the_body_box_contains_all_present_keypoints_within_the_picture():
    xy, score = pose()
    assert body_box(xy, score, HALPE26, (400, 400), margin=0) == (79, 56, 122, 241)
    x0, y0, x1, y1 = body_box(xy, score, HALPE26, (130, 250), margin=0.1)
    assert (x0, y0, x1, y1) == pytest.approx((60.5, 37.5, 130, 250))
    assert body_box(*pose({}), HALPE26, (400, 400)) is None
    assert body_box(xy + 1000, score, HALPE26, (400, 400)) is None
