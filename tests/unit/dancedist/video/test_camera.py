from __future__ import annotations

import cv2
import numpy as np
import pytest

from dancedist.video.camera import camera_move

W, H = 640, 360


def backdrop(seed=0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    large = cv2.GaussianBlur(rng.integers(0, 255, (H + 200, W + 200, 3)).astype(np.uint8), None, 3)
    return cv2.normalize(large, None, 0, 255, cv2.NORM_MINMAX)


def moving(offsets, dancer=True, seed=0):
    """Frames of one backdrop moved by (dx, dy) px, with a textured dancer that moves sideways."""
    wall, clothes = backdrop(seed), backdrop(seed + 1)
    for i, (dx, dy) in enumerate(offsets):
        shift = np.array([[1, 0, dx - 100], [0, 1, dy - 100]], np.float64)
        frame = cv2.warpAffine(wall, shift, (W, H), flags=cv2.INTER_LINEAR)
        x = 60 + 40 * i
        if dancer:
            frame[60:340, x : x + 120] = clothes[60 + i : 340 + i, 0:120]
        yield frame, (x - 10.0, 50.0, x + 130.0, 350.0)


def test_a_static_camera_has_no_movement():
    assert camera_move(moving([(0, 0)] * 10)) == pytest.approx(0, abs=1e-4)


@pytest.mark.parametrize("offset", [(4, 0), (0, -6), (30, 12)])
def test_a_moving_camera_is_measured(offset):
    movement = camera_move(moving([(0, 0)] + [offset] * 8))
    assert movement == pytest.approx(np.hypot(*offset) / W, rel=0.05, abs=2e-4)


def test_a_plain_backdrop_has_no_result():
    rng = np.random.default_rng(0)
    noisy = ((100 + rng.normal(0, 1.5, (H, W, 3))).astype(np.uint8) for _ in range(5))
    assert camera_move((f, (100.0, 100.0, 200.0, 300.0)) for f in noisy) is None
    assert camera_move([]) is None
    assert camera_move(moving([(0, 0)])) is None, "one frame has no movement"


def test_cuts_are_infinite_movement():
    frames = [next(moving([(0, 0)], seed=10 * s)) for s in range(6)]
    assert camera_move(frames) == float("inf")
