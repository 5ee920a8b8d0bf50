"""Every number of every method, frame by frame, against the same truth."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dancedist.metrics.image import MIN_LPIPS_PX, Frames, Lpips, Rgb, psnr, ssim, window
from dancedist.metrics.pose import missed_detections, pose_distance_px
from dancedist.metrics.temporal import flow, tlp, tof_px, visible, warping_error
from dancedist.pose.sequence import PoseSequence, torso_px
from dancedist.progress import Advance, silent
from dancedist.skeleton.face import Box

# Smaller faces are enlarged so far before LPIPS sees them: the side of the paper's crops.
FACE_PX = 128
# Finds the dancer again on frames: -> xy (T, K, 2) px, score (T, K), in the topology of the true poses.
Redetect = Callable[[Frames], tuple[NDArray[np.float32], NDArray[np.float32]]]
# method -> metric (a key of report.METRICS) -> (T,), NaN where it is undefined.
Scores = dict[str, dict[str, NDArray[np.float64]]]


@dataclass(frozen=True, eq=False)
class Truth:
    """What T generated frames should show.

    `poses`: px of the generated frames. `frames`: true pixels, None where there are none (another's dance on real
    footage): then only poses are scored. `body` and `face`: one box or None per frame, from the true poses
    (`figure.face`); a frame that cannot be read has None in both. `cuts`: frames that begin another clip, so that
    nothing is measured between them and the frame before.
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
    """Score each method's frames; all methods at once, as the truth's flow and features are had but once.

    `methods`: name -> T frames as large as the true ones. `lpips` is needed where `truth.frames` are given.
    `min_score`: a keypoint under it counts as not seen. Poses are compared on all frames, pixels on every
    `every`th (and the one before it); the others are NaN. `advance` is told of the frames whose pixels are compared.
    """
    assert all(len(frames) == len(truth.poses) for frames in methods.values())
    scores: Scores = {name: _pose_scores(frames, truth.poses, redetect, min_score) for name, frames in methods.items()}
    if truth.frames is None:
        return scores
    assert lpips is not None, "true pixels are compared by LPIPS too"
    for t in range(0, len(truth.poses), every):
        for name, numbers in zip(methods, _frame_scores(t, list(methods.values()), truth, lpips), strict=True):
            for metric, value in numbers.items():
                scores[name].setdefault(metric, np.full(len(truth.poses), np.nan))[t] = value
        advance(1)
    return scores


def _pose_scores(
    frames: Frames, true: PoseSequence, redetect: Redetect, min_score: float
) -> dict[str, NDArray[np.float64]]:
    found_xy, found_score = redetect(frames)
    distance = pose_distance_px(true.xy, true.score, found_xy, found_score, min_score)
    return {
        "pose_distance_px": distance,
        "pose_distance_torsos": distance / torso_px(true),
        "missed_detections": missed_detections(true.xy, true.score, found_xy, found_score, min_score),
    }


def _frame_scores(t: int, generated: list[Frames], truth: Truth, lpips: Lpips) -> list[dict[str, float]]:
    """Metrics of frame `t`, one dict per method."""
    scores: list[dict[str, float]] = [{} for _ in generated]
    if truth.body[t] is None and truth.face[t] is None:
        return scores
    now = _side_by_side(t, generated, truth)
    before: list[Rgb] | None = None
    if t > 0 and t not in truth.cuts and truth.body[t] is not None and truth.body[t - 1] is not None:
        before = _side_by_side(t - 1, generated, truth)
    for region, box in (("body", truth.body[t]), ("face", truth.face[t])):
        place = window(box, *now[0].shape[:2])
        if place is None:
            continue
        crops = np.stack([frame[place] for frame in now])
        earlier = np.stack([frame[place] for frame in before]) if before is not None and region == "body" else None
        # What stands still, the mean frame above all, looks the same as before: its features are had already.
        moved = [] if earlier is None else [i for i, crop in enumerate(crops) if not np.array_equal(crop, earlier[i])]
        seen = crops if earlier is None else np.concatenate([crops, earlier[moved]])
        features = lpips.features(seen, FACE_PX if region == "face" else MIN_LPIPS_PX)
        methods = range(1, len(now))
        true = np.broadcast_to(crops[:1], crops[1:].shape)
        _put(scores, f"{region}_ssim", ssim(crops[1:], true))
        _put(scores, f"{region}_psnr_db", psnr(crops[1:], true))
        _put(scores, f"{region}_lpips", lpips.between(features, [0] * len(methods), methods))
        if earlier is not None:
            at = {i: len(now) + place for place, i in enumerate(moved)}
            change = lpips.between(features, range(len(now)), [at.get(i, i) for i in range(len(now))])
            _put(scores, "tlp", tlp(change[0], change[1:]))
            _motion_scores(scores, earlier, crops)
    return scores


def _motion_scores(scores: list[dict[str, float]], before: Rgb, after: Rgb) -> None:
    """tOF and warping error; the truth is number 0 of both stacks (1 + methods, h, w, 3)."""
    forward = flow(before[0], after[0])
    shown = visible(forward, flow(after[0], before[0]))
    pairs = list(zip(before[1:], after[1:], strict=True))
    _put(scores, "tof_px", [tof_px(forward, flow(a, b)) for a, b in pairs])
    _put(scores, "warping_error", [warping_error(a, b, forward, shown) for a, b in pairs])


def _side_by_side(t: int, generated: list[Frames], truth: Truth) -> list[Rgb]:
    assert truth.frames is not None
    frames = [truth.frames[t], *(g[t] for g in generated)]
    assert all(f.shape == frames[0].shape for f in frames), [f.shape for f in frames]
    return frames


def _put(scores: list[dict[str, float]], metric: str, values: Sequence[float] | NDArray[np.float64]) -> None:
    for numbers, value in zip(scores, values, strict=True):
        numbers[metric] = float(value)
