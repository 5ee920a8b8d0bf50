"""Scores: every metric of every method, frame by frame, against one truth."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dancedist.arrays import Box, Rgb
from dancedist.metrics.crop import crop_slices
from dancedist.metrics.image import Frames, psnr, ssim
from dancedist.metrics.lpips import MIN_LPIPS_PX, Lpips
from dancedist.metrics.pose import missed_detections, pose_distance_px
from dancedist.metrics.temporal import flow, tlp, tof_px, visible, warping_error
from dancedist.pose.sequence import PoseSequence, torso_px
from dancedist.progress import Advance, silent

# Smaller faces are enlarged to this side before LPIPS: the side of the paper's crops.
FACE_PX = 128
# Detects the dancer's pose on T frames: -> xy float32 (T, K, 2) px, score float32 (T, K), in the true poses' topology.
Redetect = Callable[[Frames], tuple[NDArray[np.float32], NDArray[np.float32]]]
# Method -> metric (a key of report.METRICS) -> float64 (T,), NaN where it is undefined.
Scores = dict[str, dict[str, NDArray[np.float64]]]


@dataclass(frozen=True, eq=False)
class Truth:
    """What T generated frames should show.

    `poses` in px of the generated frames. `frames`: true pixels; None if there are none (another person's dance on
    real footage), and then only poses are scored. `body`, `face`: one box or None per frame, from the true poses
    (`skeleton.face`); an undecodable frame has None in both. `cuts`: frames that begin another video; nothing is
    measured between them and the frame before.
    """

    poses: PoseSequence
    frames: Frames | None = None
    body: Sequence[Box | None] = ()
    face: Sequence[Box | None] = ()
    cuts: frozenset[int] = frozenset()

    def __post_init__(self) -> None:
        lengths = {len(self.frames), len(self.body), len(self.face)} if self.frames is not None else set()
        assert lengths <= {len(self.poses)}, (lengths, len(self.poses))


def score_frames(
    methods: Mapping[str, Frames],
    truth: Truth,
    redetect: Redetect,
    lpips: Lpips | None = None,
    min_score: float = 0.3,
    every: int = 1,
    advance: Advance = silent,
) -> Scores:
    """Score all methods at once, so that the truth's flow and features are computed once.

    `methods`: name -> T frames of the true frames' size, uint8 RGB (H, W, 3) each. `lpips` is required if there are
    `truth.frames`. A keypoint with a score under `min_score` counts as not detected. Poses are compared on all
    frames, pixels on every `every`th one (with the frame before it); the other values are NaN. `advance` is called
    for every frame whose pixels are compared.
    """
    assert all(len(frames) == len(truth.poses) for frames in methods.values())
    scores: Scores = {name: _pose_scores(frames, truth.poses, redetect, min_score) for name, frames in methods.items()}
    if truth.frames is None:
        return scores
    assert lpips is not None, "comparing pixels needs LPIPS"
    for t in range(0, len(truth.poses), every):
        for name, of_frame in zip(methods, _frame_scores(t, list(methods.values()), truth, lpips), strict=True):
            for metric, value in of_frame.items():
                scores[name].setdefault(metric, np.full(len(truth.poses), np.nan))[t] = value
        advance(1)
    return scores


def _pose_scores(
    frames: Frames, true: PoseSequence, redetect: Redetect, min_score: float
) -> dict[str, NDArray[np.float64]]:
    xy, score = redetect(frames)
    distance = pose_distance_px(true.xy, true.score, xy, score, min_score)
    return {
        "pose_distance_px": distance,
        "pose_distance_torsos": distance / torso_px(true),
        "missed_detections": missed_detections(true.xy, true.score, xy, score, min_score),
    }


def _frame_scores(t: int, generated: list[Frames], truth: Truth, lpips: Lpips) -> list[dict[str, float]]:
    """Pixel metrics of frame `t`, one dict per method."""
    scores: list[dict[str, float]] = [{} for _ in generated]
    if truth.body[t] is None and truth.face[t] is None:
        return scores
    now = _true_and_generated(t, generated, truth)
    before: list[Rgb] | None = None
    if t > 0 and t not in truth.cuts and truth.body[t] is not None and truth.body[t - 1] is not None:
        before = _true_and_generated(t - 1, generated, truth)
    for region, box in (("body", truth.body[t]), ("face", truth.face[t])):
        crop = crop_slices(box, *now[0].shape[:2])
        if crop is None:
            continue
        crops = np.stack([frame[crop] for frame in now])
        earlier = np.stack([frame[crop] for frame in before]) if before is not None and region == "body" else None
        # A crop that did not change, as in the mean frame, needs no second set of features.
        moved = [] if earlier is None else [i for i, now_i in enumerate(crops) if not np.array_equal(now_i, earlier[i])]
        batch = crops if earlier is None else np.concatenate([crops, earlier[moved]])
        features = lpips.features(batch, FACE_PX if region == "face" else MIN_LPIPS_PX)
        methods = range(1, len(now))
        true = np.broadcast_to(crops[:1], crops[1:].shape)
        _set(scores, f"{region}_ssim", ssim(crops[1:], true))
        _set(scores, f"{region}_psnr_db", psnr(crops[1:], true))
        _set(scores, f"{region}_lpips", lpips.between(features, [0] * len(methods), methods))
        if earlier is not None:
            # Index of the earlier crop in the batch, for each crop that moved.
            earlier_index = {i: len(now) + n for n, i in enumerate(moved)}
            change = lpips.between(features, range(len(now)), [earlier_index.get(i, i) for i in range(len(now))])
            _set(scores, "tlp", tlp(change[0], change[1:]))
            _motion_scores(scores, earlier, crops)
    return scores


def _motion_scores(scores: list[dict[str, float]], before: Rgb, after: Rgb) -> None:
    """tOF and warping error of two neighbouring frames, (1 + methods, h, w, 3) each; the truth is the first."""
    forward = flow(before[0], after[0])
    mask = visible(forward, flow(after[0], before[0]))
    pairs = list(zip(before[1:], after[1:], strict=True))
    _set(scores, "tof_px", [tof_px(forward, flow(a, b)) for a, b in pairs])
    _set(scores, "warping_error", [warping_error(a, b, forward, mask) for a, b in pairs])


def _true_and_generated(t: int, generated: list[Frames], truth: Truth) -> list[Rgb]:
    """Frame `t` of the truth, then of every method."""
    assert truth.frames is not None
    frames = [truth.frames[t], *(g[t] for g in generated)]
    assert all(f.shape == frames[0].shape for f in frames), [f.shape for f in frames]
    return frames


def _set(scores: list[dict[str, float]], metric: str, values: Sequence[float] | NDArray[np.float64]) -> None:
    for of_method, value in zip(scores, values, strict=True):
        of_method[metric] = float(value)
