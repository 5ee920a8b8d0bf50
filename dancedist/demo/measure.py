"""The demo's measurements: drawn performers against their ground truth, footage on its held-out block."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from dancedist.arrays import Rgb
from dancedist.bundle.bundle import Bundle
from dancedist.data.target import Target
from dancedist.demo.outcome import Outcome
from dancedist.evaluation.frame_stack import stacked
from dancedist.evaluation.held_out import held_out, scored_range
from dancedist.evaluation.measure import perceptual_metric, redetector, score_methods
from dancedist.evaluation.renditions import renditions
from dancedist.metrics.pose import pose_distance_px
from dancedist.pose.extract import extract_with_progress
from dancedist.pose.sequence import PoseSequence, torso_px
from dancedist.recipe.schema import Recipe
from dancedist.render.film import as_danced_by
from dancedist.retarget.stats import RetargetStats
from dancedist.retarget.transform import retarget
from dancedist.synthetic import SOURCE, TARGET_TEST, TARGET_TRAINING
from dancedist.synthetic.films import draw_frames
from dancedist.video.decode import read_frames
from dancedist.video.probe import probe


def measure_synthetic(
    outcome: Outcome, bundle: Bundle, target: Target, source_poses: PoseSequence, out: Path, recipe: Recipe
) -> Rgb:
    """Measure a demo of drawn performers against their ground truth; fills in `outcome`.

    Measured are the joint errors of the poses, the target's own dances that were not trained on, and the transfer.
    Returns the transfer's true frames, uint8 RGB (T, H, W, 3). Raises WeightsMissing.
    """
    redetect, lpips = redetector(recipe.pose), perceptual_metric()
    test = probe(out / "footage" / "target_test.mp4", recipe.video)
    test_poses = extract_with_progress(test, out / "test" / "poses.parquet", recipe.pose)
    true = {"target": TARGET_TRAINING.poses(), "target_test": TARGET_TEST.poses(), "source": SOURCE.poses()}
    extracted = {"target": target.poses, "target_test": test_poses, "source": source_poses}
    outcome.joint_error_torsos = {name: joint_error_torsos(extracted[name], true[name]) for name in true}

    own = renditions(bundle, target, test_poses, "the target's own new dances")
    frames = stacked(read_frames(test), test.frames)
    outcome.reports["own motion"] = score_methods(own, true["target_test"], frames, redetect, lpips, "own motion")

    stats = RetargetStats.of(true["source"]), RetargetStats.of(true["target"])
    truth = retarget(true["source"], *stats, recipe.retarget, bundle.dancer.frame_size)
    true_frames = stacked(draw_frames(TARGET_TRAINING, truth), len(truth))
    danced = renditions(bundle, target, as_danced_by(bundle, source_poses), "the source's dance")
    outcome.reports["transfer"] = score_methods(danced, truth, true_frames, redetect, lpips, "the transfer")
    return true_frames


def measure_footage(outcome: Outcome, bundle: Bundle, target: Target, source_poses: PoseSequence) -> None:
    """Measure a demo of footage; fills in `outcome`. Raises WeightsMissing.

    The target's held-out block is scored with every metric; of the transfer only the poses, as it has no true pixels.
    """
    recipe = bundle.dancer.recipe
    redetect, lpips = redetector(recipe.pose), perceptual_metric()
    poses, frames = held_out(target)
    own = renditions(bundle, target, poses, "the held-out block")
    outcome.reports["held-out block"] = score_methods(own, poses, frames, redetect, lpips, "the held-out block")
    danced_poses = as_danced_by(bundle, source_poses)
    scored = scored_range(danced_poses, range(len(danced_poses)))
    danced_poses = danced_poses.slice(scored.start, scored.stop)
    danced = renditions(bundle, target, danced_poses, "the source's dance")
    outcome.reports["transfer"] = score_methods(danced, danced_poses, None, redetect, None, "the transfer")


def joint_error_torsos(extracted: PoseSequence, true: PoseSequence) -> float:
    """Mean distance of extracted joints from the true ones, in torso lengths of the true dancer."""
    return float(np.nanmean(pose_distance_px(true.xy, true.score, extracted.xy, extracted.score)) / torso_px(true))
