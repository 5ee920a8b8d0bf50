"""The demo's measurements: drawn performers against their truth, footage on the block that was held out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dancedist.bundle.bundle import Bundle
from dancedist.demo.outcome import Outcome
from dancedist.evaluation import evaluation as ev
from dancedist.metrics.pose import pose_distance_px
from dancedist.pose.extract import extract_with_progress
from dancedist.pose.sequence import PoseSequence, torso_px
from dancedist.recipe import Recipe
from dancedist.render.film import as_danced_by
from dancedist.retarget.stats import RetargetStats
from dancedist.retarget.transform import retarget
from dancedist.synthetic import SOURCE, TARGET_TEST, TARGET_TRAINING
from dancedist.synthetic.films import drawn
from dancedist.training.target import Target
from dancedist.video.decode import read_frames
from dancedist.video.probe import probe


def measure_synthetic(
    outcome: Outcome, bundle: Bundle, target: Target, source_poses: PoseSequence, out: Path, recipe: Recipe
) -> NDArray[np.uint8]:
    """Joint errors, the target's own dances that were never trained on, and the transfer; returns its true frames."""
    redetect, lpips = ev.redetector(recipe.pose), ev.perceptual_metric()
    test = probe(out / "footage" / "target_test.mp4", recipe.video)
    test_poses = extract_with_progress(test, out / "test" / "poses.parquet", recipe.pose)
    true = {"target": TARGET_TRAINING.poses(), "target_test": TARGET_TEST.poses(), "source": SOURCE.poses()}
    found = {"target": target.poses, "target_test": test_poses, "source": source_poses}
    outcome.joint_error_torsos = {name: joint_error_torsos(found[name], true[name]) for name in true}

    own = ev.renditions(bundle, target, test_poses, "the target's own new dances")
    frames = ev.stacked(read_frames(test), test.frames)
    outcome.reports["own motion"] = ev.score(own, true["target_test"], frames, redetect, lpips, "own motion")

    stats = RetargetStats.of(true["source"]), RetargetStats.of(true["target"])
    truth = retarget(true["source"], *stats, recipe.retarget, bundle.dancer.frame_size)
    true_frames = ev.stacked(drawn(TARGET_TRAINING, truth), len(truth))
    danced = ev.renditions(bundle, target, as_danced_by(bundle, source_poses), "the source's dance")
    outcome.reports["transfer"] = ev.score(danced, truth, true_frames, redetect, lpips, "the transfer")
    return true_frames


def measure_footage(outcome: Outcome, bundle: Bundle, target: Target, source_poses: PoseSequence) -> None:
    """The held-out block of the target, and the poses of the transfer: it has no true pixels."""
    recipe = bundle.dancer.recipe
    redetect, lpips = ev.redetector(recipe.pose), ev.perceptual_metric()
    poses, frames = ev.held_out(target)
    own = ev.renditions(bundle, target, poses, "the held-out block")
    outcome.reports["held-out block"] = ev.score(own, poses, frames, redetect, lpips, "the held-out block")
    danced_poses = as_danced_by(bundle, source_poses)
    scored = ev.scored_range(danced_poses, range(len(danced_poses)))
    danced_poses = danced_poses.slice(scored.start, scored.stop)
    danced = ev.renditions(bundle, target, danced_poses, "the source's dance")
    outcome.reports["transfer"] = ev.score(danced, danced_poses, None, redetect, None, "the transfer")


def joint_error_torsos(found: PoseSequence, true: PoseSequence) -> float:
    """Mean distance of found from true joints over all frames and keypoints, in torso lengths of the true dancer."""
    return float(np.nanmean(pose_distance_px(true.xy, true.score, found.xy, found.score)) / torso_px(true))
