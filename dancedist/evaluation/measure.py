"""Measurement of a rendition: pose detector, LPIPS and boxes are set up, then every method is scored."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dancedist.arrays import Box, Rgb
from dancedist.evaluation.renditions import Rendition
from dancedist.evaluation.report import Report, summarise
from dancedist.evaluation.score import Redetect, Truth, score_frames
from dancedist.metrics.image import Frames
from dancedist.metrics.lpips import Lpips
from dancedist.pose.detect import PeopleDetector
from dancedist.pose.sequence import PoseSequence
from dancedist.pose.track import select_track
from dancedist.progress import progress
from dancedist.recipe.schema import PoseRecipe
from dancedist.skeleton.face import body_box, face_box
from dancedist.weights import load_backbone

LPIPS_WEIGHTS = "lpips-alexnet"
# Pixels are compared on every third frame: neighbouring frames give nearly the same values, and features and optical
# flow take most of the time.
PIXELS_EVERY = 3


def redetector(recipe: PoseRecipe) -> Redetect:
    """Return a function that detects the dancer's pose on frames as `dancedist poses` does, without smoothing.

    It takes T frames and returns xy, float32 (T, K, 2) px, and score, float32 (T, K).
    """
    detector = PeopleDetector(recipe)

    def redetect(frames: Frames) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        if isinstance(frames, np.ndarray) and frames.strides[0] == 0:
            # The same picture for every frame (`np.broadcast_to`): detect once.
            xy, score = redetect(list(frames[:1]))
            return np.repeat(xy, len(frames), 0), np.repeat(score, len(frames), 0)
        size = recipe.segment_frames
        starts = range(0, len(frames), size)
        people = [detector.segment(frames[t] for t in range(s, min(s + size, len(frames)))) for s in starts]
        xy, score, _ = select_track(people)
        return xy, score

    return redetect


def perceptual_metric() -> Lpips:
    """Load LPIPS with its AlexNet. Raises WeightsMissing."""
    return Lpips(load_backbone(LPIPS_WEIGHTS))


def score_methods(
    rendition: Rendition,
    true_poses: PoseSequence,
    frames: Rgb | None,
    redetect: Redetect,
    lpips: Lpips | None,
    label: str,
    cuts: frozenset[int] = frozenset(),
) -> Report:
    """Score every method of a rendition with every metric.

    `true_poses` in px of the frames. `frames`: the true ones, uint8 RGB (T, H, W, 3); without them only poses are
    scored. `cuts`: frames that begin another video; no change is measured between them and the frame before. `label`
    names the progress bar.
    """
    truth = Truth(true_poses, cuts=cuts)
    if frames is not None:
        boxes = _boxes(true_poses)
        truth = Truth(true_poses, frames, [body for body, _ in boxes], [face for _, face in boxes], cuts)
    with progress(f"measuring {label}", len(range(0, len(true_poses), PIXELS_EVERY))) as advance:
        scores = score_frames(rendition.methods, truth, redetect, lpips, every=PIXELS_EVERY, advance=advance)
        return summarise(scores)


def _boxes(poses: PoseSequence) -> list[tuple[Box | None, Box | None]]:
    pairs = zip(poses.xy, poses.score, strict=True)
    return [(body_box(xy, s, poses.topology, poses.size), face_box(xy, s, poses.topology)) for xy, s in pairs]
