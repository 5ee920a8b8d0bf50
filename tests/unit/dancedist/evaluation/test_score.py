from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from dancedist.evaluation.report import METRICS
from dancedist.evaluation.score import Truth, score_frames
from dancedist.metrics.image import Frames
from dancedist.metrics.lpips import Lpips
from dancedist.pose.sequence import PoseSequence, torso_px

Moving = Callable[[int, int, int], np.ndarray]
Poses = Callable[..., PoseSequence]
BODY, FACE = (5.0, 5.0, 95.0, 115.0), (30.0, 20.0, 62.0, 52.0)


def redetect_as(poses: PoseSequence) -> Callable[[Frames], tuple[np.ndarray, np.ndarray]]:
    return lambda frames: (poses.xy[: len(frames)], poses.score[: len(frames)])


def truth_of(frames: np.ndarray, poses: PoseSequence, **changes: object) -> Truth:
    boxes = {"body": [BODY] * len(frames), "face": [FACE] * len(frames)}
    return Truth(poses, frames, **{**boxes, **changes})


def test_the_truth_scores_perfectly(moving: Moving, poses: Poses, lpips: Lpips) -> None:
    frames, advances = moving(4, 3, 2), []
    truth = truth_of(frames, poses(4))
    scores = score_frames({"truth": frames}, truth, redetect_as(truth.poses), lpips, advance=advances.append)["truth"]
    assert set(scores) == set(METRICS)
    perfect = {"body_ssim": 1, "face_ssim": 1, "body_psnr_db": 100, "face_psnr_db": 100}
    for metric, values in scores.items():
        pairs_only = metric in ("tof_px", "tlp", "warping_error")
        assert np.isnan(values[0]) == pairs_only
        expected = [perfect.get(metric, 0)] * (4 - pairs_only)
        assert values[int(pairs_only) :] == pytest.approx(expected, abs=1e-4 if metric == "warping_error" else 1e-6)
    assert sum(advances) == 4


def test_each_method_has_its_own_scores(moving: Moving, poses: Poses, lpips: Lpips) -> None:
    frames, still = moving(4, 3, 2), np.repeat(moving(1, 0, 0), 4, axis=0)
    scores = score_frames({"truth": frames, "still": still}, truth_of(frames, poses(4)), redetect_as(poses(4)), lpips)
    assert scores["still"]["tof_px"][1:] == pytest.approx([np.hypot(3, 2)] * 3, rel=0.1)
    assert scores["still"]["body_ssim"][0] == pytest.approx(1)
    assert (scores["still"]["body_ssim"][1:] < 0.7).all()
    assert (scores["still"]["body_lpips"][1:] > 0.001).all()
    assert (scores["still"]["tlp"][1:] > 0.001).all()
    assert (scores["truth"]["tof_px"][1:] == 0).all()


def test_only_the_crop_is_compared(moving: Moving, poses: Poses, lpips: Lpips) -> None:
    frames = moving(2, 1, 1)
    generated = frames.copy()
    generated[:, 60:] = 0
    scores = score_frames({"g": generated}, truth_of(frames, poses(2)), redetect_as(poses(2)), lpips)["g"]
    assert scores["face_ssim"] == pytest.approx([1, 1], abs=1e-6)
    assert scores["face_lpips"] == pytest.approx([0, 0], abs=1e-6)
    assert (scores["body_ssim"] < 0.9).all()


def test_motion_is_measured_on_the_body_crop(moving: Moving, poses: Poses, lpips: Lpips) -> None:
    frames, still = moving(2, 3, 2), np.repeat(moving(1, 0, 0), 2, axis=0)
    still[1, 70:] = 255 - still[1, 70:]
    with_face = score_frames({"g": still}, truth_of(frames, poses(2)), redetect_as(poses(2)), lpips)["g"]
    faceless = truth_of(frames, poses(2), face=[None, None])
    without = score_frames({"g": still}, faceless, redetect_as(poses(2)), lpips)["g"]
    for metric in ("tof_px", "tlp", "warping_error"):
        assert with_face[metric][1] == without[metric][1] > 0


def test_a_frame_without_a_box_is_not_read(moving: Moving, poses: Poses, lpips: Lpips) -> None:
    frames: list = [*moving(4, 1, 1)]
    frames[1] = None
    body, face = [BODY, None, BODY, BODY], [None, None, FACE, None]
    truth = truth_of(frames, poses(4), body=body, face=face)  # type: ignore[arg-type]
    scores = score_frames({"g": frames}, truth, redetect_as(poses(4)), lpips)["g"]
    assert np.isfinite(scores["body_ssim"]).tolist() == [True, False, True, True]
    assert np.isfinite(scores["face_lpips"]).tolist() == [False, False, True, False]
    assert np.isfinite(scores["tof_px"]).tolist() == [False, False, False, True]


def test_nothing_is_measured_across_a_cut(moving: Moving, poses: Poses, lpips: Lpips) -> None:
    frames = moving(4, 1, 1)
    truth = truth_of(frames, poses(4), cuts=frozenset({2}))
    scores = score_frames({"g": frames}, truth, redetect_as(poses(4)), lpips)["g"]
    for metric in ("tof_px", "tlp", "warping_error"):
        assert np.isfinite(scores[metric]).tolist() == [False, True, False, True]


def test_without_true_frames_only_poses_are_scored(poses: Poses) -> None:
    true, frames = poses(3), np.zeros((3, 120, 100, 3), np.uint8)
    generated = replace(true, xy=true.xy + np.array([6, 8], np.float32))
    scores = score_frames({"g": frames}, Truth(true), redetect_as(generated))["g"]
    assert set(scores) == {"pose_distance_px", "pose_distance_torsos", "missed_detections"}
    assert scores["pose_distance_px"] == pytest.approx([10] * 3, abs=1e-4)
    assert scores["pose_distance_torsos"] == pytest.approx([10 / torso_px(true)] * 3, abs=1e-4)


def test_frames_of_another_size_are_a_bug(moving: Moving, poses: Poses, lpips: Lpips) -> None:
    frames = moving(2, 1, 1)
    with pytest.raises(AssertionError):
        score_frames({"g": frames[:, 1:]}, truth_of(frames, poses(2)), redetect_as(poses(2)), lpips)


def test_every_second_frame_limits_pixels_but_not_poses(moving: Moving, poses: Poses, lpips: Lpips) -> None:
    frames, truth = moving(5, 3, 2), truth_of(moving(5, 3, 2), poses(5))
    methods = {"g": frames[::-1].copy()}
    complete = score_frames(methods, truth, redetect_as(poses(5)), lpips)["g"]
    advances: list[int] = []
    partial = score_frames(methods, truth, redetect_as(poses(5)), lpips, every=2, advance=advances.append)["g"]
    assert sum(advances) == 3
    for metric, values in partial.items():
        skipped = slice(5, 5) if metric.startswith(("pose", "missed")) else slice(1, 5, 2)
        assert np.isnan(values[skipped]).all()
        compared = np.setdiff1d(np.arange(5), np.arange(5)[skipped])
        assert np.array_equal(values[compared], complete[metric][compared], equal_nan=True)
