from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import pytest

from dancedist.metrics.temporal import flow, tlp, tof_px, visible, warping_error

Moving = Callable[[int, int, int], np.ndarray]


@pytest.mark.parametrize(("dx", "dy"), [(0, 0), (4, 0), (-3, 5)])
def test_flow_equals_the_motion(moving: Moving, dx: int, dy: int) -> None:
    before, after = moving(2, dx, dy)
    estimated = flow(before, after)
    assert np.median(estimated.reshape(-1, 2), axis=0) == pytest.approx([dx, dy], abs=0.05)


def test_tof_of_a_still_video_equals_the_true_motion(moving: Moving) -> None:
    moving_flow, still_flow = flow(*moving(2, 3, -4)), flow(*moving(2, 0, 0))
    assert tof_px(moving_flow, moving_flow) == 0
    assert tof_px(moving_flow, still_flow) == pytest.approx(5, rel=0.05)


def test_flow_is_the_same_on_any_number_of_threads(moving: Moving) -> None:
    before, after = moving(2, 4, 3)[0], moving(2, 0, 0)[1][::-1]
    threads, flows = cv2.getNumThreads(), []
    for count in (1, 2, 4):
        cv2.setNumThreads(count)
        flows.append(flow(before, after).tobytes())
    cv2.setNumThreads(threads)
    assert len(set(flows)) == 1


def test_tlp_is_the_difference_of_changes() -> None:
    assert tlp(np.array([0.3]), np.array([0.1, 0.3, 0.4])) == pytest.approx([0.2, 0, 0.1])


def test_a_video_with_the_true_motion_has_no_warping_error(moving: Moving) -> None:
    before, after = moving(2, 4, 3)
    forward = flow(before, after)
    mask = visible(forward, flow(after, before))
    assert mask[20:-20, 20:-20].mean() > 0.98
    assert warping_error(before, after, forward, mask) < 1e-4
    # Other colours with the same motion have no error: it measures flicker, not appearance.
    assert warping_error(255 - before, 255 - after, forward, mask) < 1e-4


def test_the_warping_error_measures_flicker(moving: Moving) -> None:
    before, after = moving(2, 4, 3) // 2 + 20
    forward = flow(before, after)
    mask = visible(forward, flow(after, before))
    assert warping_error(before, after + np.uint8(51), forward, mask) == pytest.approx(0.2**2, rel=0.05)


def test_pixels_that_leave_the_window_are_not_visible(moving: Moving) -> None:
    before, after = moving(2, 10, 0)
    assert not visible(flow(before, after), flow(after, before))[:, -9:].any()


def test_covered_pixels_are_not_visible(texture: np.ndarray) -> None:
    before, after = texture[:200, :200].copy(), texture[:200, :200].copy()
    front = texture[200:280, 200:280]
    before[60:140, 40:120] = front
    after[60:140, 52:132] = front
    mask = visible(flow(before, after), flow(after, before))
    assert mask[70:130, 121:131].mean() < 0.1  # covered by the moving front
    assert mask[70:130, 50:110].mean() > 0.95
    assert mask[160:].mean() > 0.95


def test_the_warping_error_without_visible_pixels_is_undefined(moving: Moving) -> None:
    before, after = moving(2, 1, 1)
    assert np.isnan(warping_error(before, after, flow(before, after), np.zeros((120, 100), np.bool_)))
