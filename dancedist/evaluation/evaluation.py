"""A dancer beside two baselines on the same frames: what `evaluate` and `demo` measure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryFile

import cv2
import numpy as np
from numpy.typing import NDArray

from dancedist.bundle.bundle import PORTRAIT, Bundle, record_settling
from dancedist.evaluation.baselines import mean_frame, nearest_frames
from dancedist.evaluation.report import Report, summarise
from dancedist.evaluation.score import Redetect, Truth, score_frames
from dancedist.files import published
from dancedist.metrics.image import Frames, Lpips
from dancedist.pose.detect import PeopleDetector
from dancedist.pose.sequence import PoseSequence
from dancedist.pose.track import follow
from dancedist.progress import progress
from dancedist.recipe import PoseRecipe
from dancedist.render.film import render_frames
from dancedist.render.portrait import portrait
from dancedist.render.settle import settling_frames
from dancedist.skeleton.face import Box, body_box, face_box
from dancedist.training.target import Target
from dancedist.video.concat import Footage
from dancedist.video.decode import read_frame_at, read_frames
from dancedist.weights import load_backbone

LPIPS_WEIGHTS = "lpips-alexnet"
DANCER, NEAREST, MEAN = "dancer", "nearest frame", "mean frame"
# Longer blocks are scored on their first frames.
MAX_FRAMES = 400
# Features and flows of neighbouring frames say nearly the same, and take most of the time.
PIXELS_EVERY = 3

Rgb = NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Rendition:
    """Frames of every method for the same poses, (T, H, W, 3) in the target's size."""

    poses: PoseSequence
    methods: dict[str, Rgb]


def redetector(recipe: PoseRecipe) -> Redetect:
    """Finds the dancer on frames as `poses` does, unsmoothed: (T, K, 2) px and (T, K)."""
    detector = PeopleDetector(recipe)

    def redetect(frames: Frames) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        if isinstance(frames, np.ndarray) and frames.strides[0] == 0:
            # One picture, shown again and again: it is looked at once.
            xy, score = redetect(list(frames[:1]))
            return np.repeat(xy, len(frames), 0), np.repeat(score, len(frames), 0)
        size = recipe.segment_frames
        starts = range(0, len(frames), size)
        people = [detector.segment(frames[t] for t in range(s, min(s + size, len(frames)))) for s in starts]
        xy, score, _ = follow(people)
        return xy, score

    return redetect


def renditions(bundle: Bundle, target: Target, poses: PoseSequence, label: str) -> Rendition:
    """The dancer and both baselines in `poses`, px of the target's frame.

    The baselines know the training block alone: its frame nearest by pose, and the mean of its frames.
    """
    with progress(f"rendering {label}", len(poses)) as advance:
        rendered = stacked(render_frames(bundle, poses, advance), len(poses))
    block = target.data.split.train
    mean = mean_frame(read_frames(target.video, block.start, block.stop))
    methods = {
        DANCER: rendered,
        NEAREST: nearest_rendition(target.video, target.poses, target.data.train_frames(), poses),
        MEAN: np.broadcast_to(mean, rendered.shape),
    }
    return Rendition(poses, methods)


def nearest_rendition(film: Footage, film_poses: PoseSequence, known: NDArray[np.int64], poses: PoseSequence) -> Rgb:
    """For each of `poses` that of the film's frames `known` (N,) whose pose is nearest: (T, H, W, 3)."""
    train = replace(film_poses, xy=film_poses.xy[known], score=film_poses.score[known])
    nearest = known[nearest_frames(train, poses)]
    wanted = sorted(set(nearest.tolist()))
    shown = _room(len(poses), (film.height, film.width, 3))
    for t, frame in zip(wanted, read_frame_at(film, wanted), strict=True):
        assert frame is not None, f"frame {t} has a pose and no picture"
        shown[nearest == t] = frame
    return shown


def scored_range(poses: PoseSequence, block: range) -> range:
    """Frames of the block from its first dancer on, up to MAX_FRAMES."""
    shown = np.flatnonzero(poses.present[block.start : block.stop])
    start = block.start + int(shown[0]) if len(shown) else block.start
    return range(start, min(block.stop, start + MAX_FRAMES))


def held_out_range(target: Target) -> range:
    """What is scored of the target's test block."""
    return scored_range(target.poses, target.data.split.test)


def held_out(target: Target) -> tuple[PoseSequence, Rgb]:
    """Poses and true frames (T, H, W, 3) of `held_out_range`."""
    block = held_out_range(target)
    frames = stacked(read_frames(target.video, block.start, block.stop), len(block))
    return target.poses.slice(block.start, block.stop), frames


def held_out_cuts(target: Target) -> frozenset[int]:
    """Where in what is held out another video begins."""
    block = held_out_range(target)
    return frozenset(cut - block.start for cut in target.video.cuts if block.start < cut < block.stop)


def held_out_report(bundle: Bundle, target: Target) -> Report:
    """The dancer and both baselines on the block that it never saw. Raises WeightsMissing."""
    label = "the held-out block"
    poses, frames = held_out(target)
    shown = renditions(bundle, target, poses, label)
    redetect, cuts = redetector(bundle.dancer.recipe.pose), held_out_cuts(target)
    return score(shown, poses, frames, redetect, perceptual_metric(), label, cuts)


def look_over(folder: Path, bundle: Bundle, target: Target) -> Bundle:
    """The bundle, with what its own renderings of the validation block show; kept in `folder`.

    After how many frames it forgets how a rendering began, and its portrait. What is known is not looked at again.
    """
    block = target.data.split.validation
    poses = target.poses.slice(block.start, block.stop)
    if not (folder / PORTRAIT).exists() and (picture := portrait(bundle, poses)) is not None:
        with published(folder / PORTRAIT) as partial:
            cv2.imwrite(str(partial), picture[..., ::-1])
    if bundle.dancer.settling_frames is not None:
        return bundle
    frames = settling_frames(bundle, poses) if poses.present.any() else None
    record_settling(folder, frames)
    return replace(bundle, dancer=bundle.dancer.model_copy(update={"settling_frames": frames}))


def perceptual_metric() -> Lpips:
    """LPIPS on AlexNet. Raises WeightsMissing."""
    return Lpips(load_backbone(LPIPS_WEIGHTS))


def stacked(frames: Iterable[Rgb | None], count: int) -> Rgb:
    """`count` frames as one array (T, H, W, 3), in an unnamed file: as many at 1080p would take gigabytes of memory.

    One that does not decode repeats the one before, or is black (it has no pose, so it is not scored).
    """
    shown: Rgb | None = None
    t = -1
    for t, frame in enumerate(frames):
        if shown is None and frame is not None:
            shown = _room(count, frame.shape)
        if shown is not None:
            shown[t] = shown[t - 1] if frame is None else frame
    assert shown is not None and t == count - 1, (t, count)
    return shown


def _room(count: int, shape: tuple[int, ...]) -> Rgb:
    # The mapping keeps the file that has no name any more.
    with TemporaryFile() as file:
        return np.memmap(file, np.uint8, "w+", shape=(count, *shape))


def score(
    rendition: Rendition,
    true_poses: PoseSequence,
    frames: Rgb | None,
    redetect: Redetect,
    lpips: Lpips | None,
    label: str,
    cuts: frozenset[int] = frozenset(),
) -> Report:
    """Every metric of every method. `true_poses` in px of the frames; without `frames` poses alone are scored.

    At `cuts` another video begins: no change is measured there.
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
