"""Suitability of footage as a target: what can be measured before hours of training."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from dancedist.arrays import Box
from dancedist.errors import FootageUnfit
from dancedist.pose.sequence import MIN_SCORE, PoseSequence
from dancedist.recipe.schema import DataRecipe
from dancedist.skeleton.face import body_box, face_boxes
from dancedist.video.camera import camera_move
from dancedist.video.concat import Footage
from dancedist.video.decode import read_frame_at

Verdict = Literal["ok", "warn", "refuse"]
# Frame index and frame, uint8 RGB (H, W, 3); None for a frame that does not decode.
Sample = tuple[int, NDArray[np.uint8] | None]

SAMPLES = 32
# Values below these are warnings. The paper films its targets for 8 to 30 minutes.
MIN_DURATION_S = 30.0
MIN_HEIGHT_PX, MIN_HEIGHT_PART = 200, 0.35
MIN_PRESENT, MIN_FACE, MIN_FEET = 0.9, 0.6, 0.9
MIN_POSE_COVERAGE = 0.3
# Part of the longer side: 2 px in a picture of 512.
MAX_CAMERA_MOVE = 0.004

# Bins of a limb's direction, and frames that a covered bin needs.
DIRECTIONS, MIN_FRAMES_PER_BIN = 12, 3
_LIMBS = [
    (f"{side}_{a}", f"{side}_{b}")
    for side in ("left", "right")
    for a, b in (("shoulder", "elbow"), ("elbow", "wrist"), ("hip", "knee"), ("knee", "ankle"))
]


@dataclass(frozen=True)
class Finding:
    """One measurement: `value` in `unit`, and what it means for a training."""

    slug: str
    verdict: Verdict
    value: float
    unit: str
    message: str


@dataclass(frozen=True)
class TargetReport:
    """All findings about one video as a target."""

    path: Path
    findings: tuple[Finding, ...]

    @property
    def verdict(self) -> Verdict:
        """The worst verdict of all findings."""
        order: tuple[Verdict, ...] = ("ok", "warn", "refuse")
        return max((f.verdict for f in self.findings), key=order.index)


def sample_frames(video: Footage, samples: int = SAMPLES) -> Iterator[Sample]:
    """Frames spread evenly over the video: index and uint8 RGB (H, W, 3), None for one that does not decode."""
    indices = np.unique(np.linspace(0, video.frames - 1, min(samples, video.frames)).astype(int)).tolist()
    return zip(indices, read_frame_at(video, indices), strict=True)


def assess(
    video: Footage,
    poses: PoseSequence,
    frames: Iterable[Sample],
    recipe: DataRecipe | None = None,
    faces: NDArray[np.float32] | None = None,
) -> TargetReport:
    """Assess footage as a target: from its poses, and from a sample of its frames for the camera.

    `faces` float32 (T, 4) px are the poses' `face_boxes`, computed here if None. A finding is "refuse" only where
    `recipe` sets a limit, otherwise at most "warn". Notices of video and poses are warnings.
    """
    recipe = recipe or DataRecipe()
    findings = [*_amount(video, poses, recipe)]
    if poses.present.any():
        faces = face_boxes(poses) if faces is None else faces
        findings += [_size(poses), _feet(poses), _face(poses, faces), _pose_coverage(poses), _camera(poses, frames)]
    findings += [
        Finding(n.slug, "warn", float(n.frame or 0), "frame", str(n))
        for n in dict.fromkeys(video.notices + poses.notices)
    ]
    return TargetReport(video.path, tuple(findings))


def require_suitable(report: TargetReport) -> None:
    """Raise FootageUnfit with all "refuse" findings; warnings pass."""
    refused = [f.message for f in report.findings if f.verdict == "refuse"]
    if refused:
        raise FootageUnfit("is not suitable as a target", file=report.path, got="; ".join(refused))


def _below(value: float, warn: float, refuse: float = float("-inf")) -> Verdict:
    return "refuse" if value < refuse else "warn" if value < warn else "ok"


def _amount(video: Footage, poses: PoseSequence, recipe: DataRecipe) -> Iterator[Finding]:
    count, part = int(poses.present.sum()), float(poses.present.mean()) if len(poses) else 0.0
    least = recipe.min_train_frames
    yield Finding(
        "frames-with-pose", _below(count, least, least), count, "frames",
        f"{count} frames hold a pose; at least {least} are needed",
    )  # fmt: skip
    yield Finding(
        "present", _below(part, MIN_PRESENT, recipe.min_present_fraction), part, "of the frames",
        f"the dancer is visible in {part:.0%} of the frames; at least {recipe.min_present_fraction:.0%} are needed",
    )  # fmt: skip
    duration_s = len(poses) / float(video.fps)
    yield Finding(
        "duration", _below(duration_s, MIN_DURATION_S), duration_s, "s",
        f"{duration_s:.0f} s of video; from less than {MIN_DURATION_S:.0f} s much of the appearance is guessed",
    )  # fmt: skip


def _size(poses: PoseSequence) -> Finding:
    visible = zip(poses.xy[poses.present], poses.score[poses.present], strict=True)
    boxes = [body_box(xy, score, poses.topology, poses.size, margin=0) for xy, score in visible]
    height_px = float(np.median([b[3] - b[1] if b else 0.0 for b in boxes]))
    part = height_px / poses.size[1]
    verdict: Verdict = "warn" if height_px < MIN_HEIGHT_PX or part < MIN_HEIGHT_PART else "ok"
    message = f"the dancer is {height_px:.0f} px high, {part:.0%} of the frame"
    return Finding("dancer-size", verdict, height_px, "px", message)


def _feet(poses: PoseSequence) -> Finding:
    rows = [poses.topology.index[n] for n in ("left_ankle", "right_ankle")]
    # A pose network guesses ankles that are out of the frame; those do not count as visible.
    within = ((poses.xy[:, rows] >= 0) & (poses.xy[:, rows] <= np.array(poses.size) - 1)).all(axis=2)
    visible = ((poses.score[:, rows] >= MIN_SCORE) & within).any(axis=1)
    part = float(visible.sum() / poses.present.sum())
    message = f"an ankle is visible in {part:.0%} of the poses; the ground position is estimated from the ankles"
    return Finding("feet-seen", _below(part, MIN_FEET), part, "of the poses", message)


def _face(poses: PoseSequence, faces: NDArray[np.float32]) -> Finding:
    part = float(np.mean(np.isfinite(faces[poses.present]).all(axis=1)))
    message = f"the face is visible in {part:.0%} of the poses; a face that is not visible cannot be learnt"
    return Finding("face-seen", _below(part, MIN_FACE), part, "of the poses", message)


def pose_coverage(poses: PoseSequence) -> float:
    """Part of the limb directions that occur, in [0, 1].

    Upper arms, forearms, thighs and shins, each in 12 directions of 30 degrees in the picture: 96 bins. A bin is
    covered by at least 3 frames. No dance covers all: a knee bends one way only.
    """
    covered = 0
    for a, b in _LIMBS:
        i, j = poses.topology.index[a], poses.topology.index[b]
        visible = (poses.score[:, [i, j]] >= MIN_SCORE).all(axis=1) & np.isfinite(poses.xy[:, [i, j]]).all(axis=(1, 2))
        limb = poses.xy[visible, j] - poses.xy[visible, i]
        turns = np.arctan2(limb[:, 1], limb[:, 0]) / (2 * np.pi)
        bins = np.rint(turns * DIRECTIONS).astype(int) % DIRECTIONS
        covered += int((np.bincount(bins, minlength=DIRECTIONS) >= MIN_FRAMES_PER_BIN).sum())
    return covered / (len(_LIMBS) * DIRECTIONS)


def _pose_coverage(poses: PoseSequence) -> Finding:
    part = pose_coverage(poses)
    message = f"{part:.0%} of the limb directions (8 limbs, 12 directions each) occur in 3 frames or more"
    return Finding("pose-coverage", _below(part, MIN_POSE_COVERAGE), part, "of the directions", message)


def _camera(poses: PoseSequence, frames: Iterable[Sample]) -> Finding:
    unit = "of the longer side"
    move = camera_move((frame, _dancer_box(poses, i)) for i, frame in frames if frame is not None)
    if move is None:
        message = "the background has too little texture to show whether the camera moves"
        return Finding("camera", "ok", 0.0, unit, message)
    if not np.isfinite(move):
        message = "the background cannot be tracked: the camera moves far, or there are cuts"
        return Finding("camera", "warn", 1.0, unit, message)
    message = f"the background moves by {move:.1%} of the frame's longer side"
    return Finding("camera", "warn" if move > MAX_CAMERA_MOVE else "ok", move, unit, message)


def _dancer_box(poses: PoseSequence, frame: int) -> Box | None:
    return body_box(poses.xy[frame], poses.score[frame], poses.topology, poses.size, margin=0.15)
