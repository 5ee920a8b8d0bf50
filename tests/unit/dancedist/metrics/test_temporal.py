from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import pytest

from dancedist.metrics.temporal import flow, tlp, tof_px, visible, warping_error

Moving = Callable[[int, int, int], np.ndarray]


@pytest.mark.parametrize(("dx", "dy"), [(0, 0), (4, 0), (-3, 5)])
def test_flow_is_the_motion(moving: Moving, dx: int, dy: int) -> None:
    before, after = moving(2, dx, dy)
    found = flow(before, after)
    assert np.median(found.reshape(-1, 2), axis=0) == pytest.approx([dx, dy], abs=0.05)


def test_tof_of_a_still_video_is_the_true_motion(moving: Moving) -> None:
    moves, stays = flow(*moving(2, 3, -4)), flow(*moving(2, 0, 0))
    assert tof_px(moves, moves) == 0
    assert tof_px(moves, stays) == pytest.approx(5, rel=0.05)


def test_flow_is_the_same_on_any_number_of_threads(moving: Moving) -> None:
    before, after = moving(2, 4, 3)[0], moving(2, 0, 0)[1][::-1]
    threads, found = cv2.getNumThreads(), []
    for count in (1, 2, 4):
        cv2.setNumThreads(count)
        found.append(flow(before, after).tobytes())
    cv2.setNumThreads(threads)
    assert len(set(found)) == 1


def test_tlp_is_the_difference_of_changes() -> None:
    assert tlp(np.array([0.3]), np.array([0.1, 0.3, 0.4])) == pytest.approx([0.2, 0, 0.1])


def test_a_video_that_moves_as_the_truth_has_no_warping_error(moving: Moving) -> None:
    before, after = moving(2, 4, 3)
    there = flow(before, after)
    shown = visible(there, flow(after, before))
    assert shown[20:-20, 20:-20].mean() > 0.98
    assert warping_error(before, after, there, shown) < 1e-4
    # Another picture that moves alike is as good: the error tells flicker, not looks.
    assert warping_error(255 - before, 255 - after, there, shown) < 1e-4


def test_flicker_is_the_warping_error(moving: Moving) -> None:
    before, after = moving(2, 4, 3) // 2 + 20
    there = flow(before, after)
    shown = visible(there, flow(after, before))
    assert warping_error(before, after + np.uint8(51), there, shown) == pytest.approx(0.2**2, rel=0.05)


def test_what_leaves_the_window_is_not_visible(moving: Moving) -> None:
    before, after = moving(2, 10, 0)
    assert not visible(flow(before, after), flow(after, before))[:, -9:].any()


def test_what_is_covered_is_not_visible(texture: np.ndarray) -> None:
    before, after = texture[:200, :200].copy(), texture[:200, :200].copy()
    front = texture[200:280, 200:280]
    before[60:140, 40:120] = front
    after[60:140, 52:132] = front
    shown = visible(flow(before, after), flow(after, before))
    assert shown[70:130, 121:131].mean() < 0.1  # the front moves over it
    assert shown[70:130, 50:110].mean() > 0.95
    assert shown[160:].mean() > 0.95


def test_nothing_visible_is_undefined(moving: Moving) -> None:
    before, after = moving(2, 1, 1)
    assert np.isnan(warping_error(before, after, flow(before, after), np.zeros((120, 100), np.bool_)))
