"""Renditions: the same poses as frames of the dancer and of two baselines."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from dancedist.arrays import Rgb
from dancedist.bundle.bundle import Bundle
from dancedist.data.target import Target
from dancedist.evaluation.baselines import mean_frame, nearest_frames
from dancedist.evaluation.frame_stack import empty_stack, stacked
from dancedist.pose.sequence import PoseSequence
from dancedist.progress import progress
from dancedist.render.film import render_frames
from dancedist.video.concat import Footage
from dancedist.video.decode import read_frame_at, read_frames

DANCER, NEAREST, MEAN = "dancer", "nearest frame", "mean frame"


@dataclass(frozen=True, eq=False)
class Rendition:
    """Frames of every method for the same poses, uint8 RGB (T, H, W, 3) in the target's size."""

    poses: PoseSequence
    methods: dict[str, Rgb]


def renditions(bundle: Bundle, target: Target, poses: PoseSequence, label: str) -> Rendition:
    """Render `poses`, in px of the target's frame, with the dancer and both baselines.

    The baselines use only the training block: its frame with the nearest pose, and the mean of its frames. `label`
    names the progress bar.
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


def nearest_rendition(
    film: Footage, film_poses: PoseSequence, candidates: NDArray[np.int64], poses: PoseSequence
) -> Rgb:
    """For each of `poses` the film's frame with the nearest pose, uint8 RGB (T, H, W, 3).

    `candidates`, int64 (N,): indexes of the film's frames to choose from. Poses in px of one frame size.
    """
    train = replace(film_poses, xy=film_poses.xy[candidates], score=film_poses.score[candidates])
    nearest = candidates[nearest_frames(train, poses)]
    needed = sorted(set(nearest.tolist()))
    stack = empty_stack(len(poses), (film.height, film.width, 3))
    for t, frame in zip(needed, read_frame_at(film, needed), strict=True):
        assert frame is not None, f"frame {t} has a pose but does not decode"
        stack[nearest == t] = frame
    return stack
