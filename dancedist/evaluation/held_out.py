"""Evaluation of a dancer on its target's test block, which it was not trained on."""

from __future__ import annotations

import numpy as np

from dancedist.arrays import Rgb
from dancedist.bundle.bundle import Bundle
from dancedist.data.target import Target
from dancedist.evaluation.frame_stack import stacked
from dancedist.evaluation.measure import perceptual_metric, redetector, score_methods
from dancedist.evaluation.renditions import renditions
from dancedist.evaluation.report import Report
from dancedist.pose.sequence import PoseSequence
from dancedist.video.decode import read_frames

# Only the first frames of a longer block are scored.
MAX_FRAMES = 400


def scored_range(poses: PoseSequence, block: range) -> range:
    """Frames of the block from the first with a dancer on, MAX_FRAMES at most."""
    present = np.flatnonzero(poses.present[block.start : block.stop])
    start = block.start + int(present[0]) if len(present) else block.start
    return range(start, min(block.stop, start + MAX_FRAMES))


def held_out_range(target: Target) -> range:
    """The frames of the target's test block that are scored."""
    return scored_range(target.poses, target.data.split.test)


def held_out(target: Target) -> tuple[PoseSequence, Rgb]:
    """Poses and true frames, uint8 RGB (T, H, W, 3), of `held_out_range`."""
    block = held_out_range(target)
    frames = stacked(read_frames(target.video, block.start, block.stop), len(block))
    return target.poses.slice(block.start, block.stop), frames


def held_out_cuts(target: Target) -> frozenset[int]:
    """Indexes of the frames of `held_out_range` with which another of the target's videos begins."""
    block = held_out_range(target)
    return frozenset(cut - block.start for cut in target.video.cuts if block.start < cut < block.stop)


def held_out_report(bundle: Bundle, target: Target) -> Report:
    """Score the dancer and both baselines on the held-out block. Raises WeightsMissing."""
    label = "the held-out block"
    poses, frames = held_out(target)
    rendition = renditions(bundle, target, poses, label)
    redetect, cuts = redetector(bundle.dancer.recipe.pose), held_out_cuts(target)
    return score_methods(rendition, poses, frames, redetect, perceptual_metric(), label, cuts)
