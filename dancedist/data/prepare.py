"""From a video and its poses to a target's pairs, through a frame cache that processes of a machine share."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from math import ceil
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dancedist.data.frame_cache import FrameCache, fill_cache, frame_bytes, open_cache
from dancedist.data.frame_selection import FRAME_SELECTION_VERSION, evenly_spaced, select_frames
from dancedist.data.pairs import TargetData, usable_pairs
from dancedist.data.split import Split, split_by_time
from dancedist.errors import FootageUnfit, Notice, RecipeInvalid
from dancedist.files import file_lock
from dancedist.pose.sequence import PoseSequence
from dancedist.progress import Advance, silent
from dancedist.recipe.fingerprint import fingerprint
from dancedist.recipe.schema import DataRecipe, FigureRecipe
from dancedist.skeleton.face import face_boxes
from dancedist.video.concat import Footage
from dancedist.video.letterbox import Letterbox


def prepare(
    video: Footage,
    poses: PoseSequence,
    letterbox: Letterbox,
    data: DataRecipe,
    figure: FigureRecipe,
    cache: Path,
    key: str,
    advance: Advance = silent,
    *,
    face_px: int = 0,
    faces: NDArray[np.float32] | None = None,
) -> TargetData:
    """Decode the video once into `cache`, a folder that appears complete or not at all, and join it with its poses.

    With `face_px` > 0 the cache also holds face crops of that size, at `faces` float32 (T, 4) px (`face_boxes` of
    `poses` if None). A cache with the same key is reused; of several processes of a machine one fills it, the others
    wait. If `data.cache_gb` is too small for all frames, `select_frames` chooses which to cache, and a notice says
    so. Raises FootageUnfit for too few training pairs, RecipeInvalid if the cache could not hold enough of them,
    DiskFull.
    """
    assert len(poses) == video.frames, (len(poses), video.frames)
    split = split_by_time(len(poses), video.fps, data)
    capacity = _capacity(video, letterbox, data, face_px)
    too_small = capacity < video.frames
    if face_px or too_small:
        key = fingerprint(key, face_px, _digest(poses))
    if too_small:
        key = fingerprint(key, capacity, str(split), data.validation_fraction, FRAME_SELECTION_VERSION)
    with file_lock(cache.with_name(f".{cache.name}.lock")):
        if (cached := open_cache(cache, key)) is None:
            frames = _select(poses, split, video.cuts, data, capacity) if too_small else np.arange(video.frames)
            boxes = (face_boxes(poses) if faces is None else faces) if face_px else None
            fill_cache(cache, key, video, frames, letterbox, boxes, face_px, advance)
            cached = open_cache(cache, key)
    assert cached is not None, cache
    target = replace(_join(cached, poses, letterbox, split, figure), cuts=video.cuts, key=key)
    if too_small:
        message = (
            f"kept {len(cached.frames):,} of {len(poses):,} frames: the cache of {data.cache_gb:g} GB is too small"
        )
        target = replace(target, notices=(Notice("cache-short", f"{message}; frames were chosen by pose"),))
    train = len(target.pairs(split.train))
    if train < data.min_train_frames:
        raise FootageUnfit(
            "has too few pairs to train on",
            file=video.path,
            expected=f"at least {data.min_train_frames} pairs of frames with a dancer in the training block",
            got=str(train),
        )
    return target


def _join(
    cached: FrameCache, poses: PoseSequence, letterbox: Letterbox, split: Split, figure: FigureRecipe
) -> TargetData:
    xy, boxes = letterbox.points_to_picture(poses.xy), None
    if cached.face_boxes is not None:
        boxes = letterbox.points_to_picture(cached.face_boxes.reshape(-1, 2, 2)).reshape(-1, 4)
    rows = np.full(len(poses), -1, np.int64)
    rows[cached.frames] = np.arange(len(cached.frames))
    usable = poses.present.copy()
    usable[rows < 0] = False
    usable[cached.frames[~cached.decoded]] = False
    in_picture = PoseSequence(xy, poses.score, poses.topology, poses.fps, letterbox.picture_size, poses.notices)
    return TargetData(cached.pictures, in_picture, usable, letterbox, split, figure, False, cached.faces, boxes, rows)


def _capacity(video: Footage, letterbox: Letterbox, data: DataRecipe, face_px: int) -> int:
    """Frames that the cache may hold. Raises RecipeInvalid if they are too few to train on."""
    each = frame_bytes(letterbox, face_px)
    capacity = int(data.cache_gb * 1e9 / each)
    # A pair may take two frames of its own, and validation takes its part.
    least = ceil(2 * data.min_train_frames / (1 - data.validation_fraction)) + 2
    if capacity < min(least, video.frames):
        raise RecipeInvalid(
            "data.cache_gb is too small to train on it",
            file=video.path,
            expected=f"at least {least * each / 1e9:.3g}, which holds {least} frames",
            got=f"{data.cache_gb:g}",
        )
    return capacity


def _select(
    poses: PoseSequence, split: Split, cuts: tuple[int, ...], data: DataRecipe, capacity: int
) -> NDArray[np.int64]:
    """Frames to cache: of training pairs with the most different poses, and of validation pairs evenly in time."""
    sample = usable_pairs(poses.present, split.validation, cuts)
    sample = sample[evenly_spaced(len(sample), max(1, round(capacity * data.validation_fraction / 2)))]
    validation = np.union1d(sample, sample - 1)
    train = select_frames(poses, usable_pairs(poses.present, split.train, cuts), capacity - len(validation))
    return np.concatenate([train, validation])


def _digest(poses: PoseSequence) -> str:
    """SHA-256 of the poses themselves, however they were made."""
    return hashlib.sha256(poses.xy.tobytes() + poses.score.tobytes()).hexdigest()
