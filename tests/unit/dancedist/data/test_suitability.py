from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from dancedist.data.suitability import (
    MIN_POSE_COVERAGE,
    TargetReport,
    assess,
    pose_coverage,
    require_suitable,
    sample_frames,
)
from dancedist.errors import FootageUnfit, Notice
from dancedist.pose.sequence import PoseSequence
from dancedist.pose.topology import HALPE26
from dancedist.recipe.schema import DataRecipe, VideoRecipe
from dancedist.video.probe import probe

SIZE = (640, 480)
# A person facing the camera, in units of the person's height, ankles at (0, 0).
STANDING = {
    "nose": (0, -0.9), "left_eye": (0.02, -0.92), "right_eye": (-0.02, -0.92), "left_ear": (0.045, -0.91),
    "right_ear": (-0.045, -0.91), "head_top": (0, -1), "left_shoulder": (0.1, -0.78), "right_shoulder": (-0.1, -0.78),
    "left_hip": (0.05, -0.5), "right_hip": (-0.05, -0.5), "left_ankle": (0.05, 0), "right_ankle": (-0.05, 0),
}  # fmt: skip


def dance(seconds=40.0, height_px=350.0, arms=True) -> PoseSequence:
    """A person in front of the camera whose arms and knees go through all directions."""
    frames = round(25 * seconds)
    points = np.full((frames, 26, 2), np.nan)
    for name, point in STANDING.items():
        points[:, HALPE26.index[name]] = point
    for i, side in enumerate(("left", "right")):
        for limb, (root, joint, end, length) in enumerate(
            (("shoulder", "elbow", "wrist", 0.15), ("hip", "knee", None, 0.25))
        ):
            angle = np.arange(frames) * 0.11 * (1 + i + limb) if arms else np.full(frames, 1.5)
            limb_vector = length * np.stack([np.cos(angle), np.sin(angle)], axis=1)
            start = points[:, HALPE26.index[f"{side}_{root}"]]
            points[:, HALPE26.index[f"{side}_{joint}"]] = start + limb_vector
            if end:
                points[:, HALPE26.index[f"{side}_{end}"]] = start + 2 * limb_vector
    xy = (points * height_px + np.array([320, 440])).astype(np.float32)
    return PoseSequence(xy, np.isfinite(xy).all(axis=2).astype(np.float32), HALPE26, Fraction(25), SIZE)


def report(poses: PoseSequence, frames=(), recipe=None, notices=()) -> TargetReport:
    video = SimpleNamespace(path=Path("film.mp4"), fps=poses.fps, frames=len(poses), notices=notices)
    return assess(video, poses, frames, recipe)


def verdicts(result: TargetReport) -> dict[str, str]:
    return {f.slug: f.verdict for f in result.findings if f.verdict != "ok"}


def test_good_footage_has_no_warnings():
    result = report(dance())
    assert verdicts(result) == {} and result.verdict == "ok"
    assert {f.slug for f in result.findings} == {
        "frames-with-pose", "present", "duration", "dancer-size", "feet-seen", "face-seen", "pose-coverage", "camera",
    }  # fmt: skip
    require_suitable(result)


def test_too_few_frames_are_refused():
    result = report(dance(seconds=1))
    assert verdicts(result)["frames-with-pose"] == "refuse" and result.verdict == "refuse"
    with pytest.raises(FootageUnfit, match=r"film.mp4: .*25 frames hold a pose; at least 48"):
        require_suitable(result)
    require_suitable(report(dance(seconds=1), recipe=DataRecipe(min_train_frames=20)))


@pytest.mark.parametrize("poses", [dance(seconds=0), dance()])
def test_footage_without_a_dancer_is_refused(poses):
    poses.score[:], poses.xy[:] = 0, np.nan
    with pytest.raises(FootageUnfit, match="0%"):
        require_suitable(report(poses))


def test_a_dancer_who_is_often_absent():
    poses = dance()
    poses.score[: int(0.3 * len(poses))] = 0
    assert verdicts(report(poses)) == {"present": "warn"}
    poses.score[: int(0.6 * len(poses))] = 0
    assert verdicts(report(poses))["present"] == "refuse"


def test_warnings_are_not_refusals():
    assert verdicts(report(dance(height_px=120))) == {"dancer-size": "warn"}
    assert verdicts(report(dance(seconds=10))) == {"duration": "warn"}
    assert verdicts(report(dance(arms=False))) == {"pose-coverage": "warn"}
    behind = dance()
    behind.xy[..., 0] = 640 - behind.xy[..., 0]
    assert verdicts(report(behind)) == {"face-seen": "warn"}
    cut = dance()
    cut.xy[:, [HALPE26.index["left_ankle"], HALPE26.index["right_ankle"]], 1] = 481
    assert verdicts(report(cut)) == {"feet-seen": "warn"}
    for result in (report(behind), report(cut)):
        assert result.verdict == "warn"
        require_suitable(result)


def test_notices_of_poses_and_video_are_warnings():
    result = report(dance(), notices=(Notice("several-people", "two of them", 7),) * 2)
    assert verdicts(result) == {"several-people": "warn"}
    assert [f.slug for f in result.findings].count("several-people") == 1
    assert "frame 7: two of them" in result.findings[-1].message


def test_a_moving_camera_is_a_warning():
    rng = np.random.default_rng(0)
    wall = np.kron(rng.integers(0, 255, (60, 80, 3)), np.ones((10, 10, 1))).astype(np.uint8)
    frames = [(25 * i, wall[i : 480 + i, :640]) for i in range(20)]
    still = [(25 * i, wall[:480, :640]) for i in range(20)]
    assert verdicts(report(dance(), frames)) == {"camera": "warn"}
    assert verdicts(report(dance(), [*still, (999, None)])) == {}
    camera = next(f for f in report(dance(), frames).findings if f.slug == "camera")
    assert camera.value == pytest.approx(17 / 640, abs=2 / 640)


def test_coverage_counts_the_limb_directions_that_occur():
    dancing, standing = dance(), dance(arms=False)
    # Arms and thighs go through all directions: 6 of 8 limbs. Shins do not: the ankles stay in place.
    assert pose_coverage(dancing) > 6 / 8
    assert pose_coverage(standing) == pytest.approx(8 / 96)
    assert pose_coverage(standing) < MIN_POSE_COVERAGE
    assert pose_coverage(standing.slice(0, 2)) == 0, "a bin needs three frames"


@pytest.mark.footage
def test_samples_are_spread_over_a_film(footage):
    video = probe(footage / "target_e_edn_man_5s.mp4", VideoRecipe())
    indices, frames = zip(*sample_frames(video, 5), strict=True)
    assert indices == (0, 28, 56, 84, 112)
    assert all(f is not None and f.shape == (1264, 720, 3) for f in frames)
    one = probe(footage / "nasty" / "one_frame.mp4", VideoRecipe())
    assert [i for i, _ in sample_frames(one)] == [0]
