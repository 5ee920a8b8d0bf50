"""From a film and its poses to a target's pairs, through a cache that the processes of a machine share."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from math import ceil
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dancedist.data.frame_cache import FrameCache, fill_cache, frame_bytes, open_cache
from dancedist.data.frame_selection import SPREAD_VERSION, best_spread, evenly
from dancedist.data.pairs import TargetData, paired
from dancedist.data.split import Split, split_by_time
from dancedist.errors import FootageUnfit, Notice, RecipeInvalid
from dancedist.files import only_one
from dancedist.pose.sequence import PoseSequence
from dancedist.progress import Advance, silent
from dancedist.recipe import DataRecipe, FigureRecipe, fingerprint
from dancedist.video.concat import Footage
from dancedist.video.letterbox import Fit


def prepare(
    video: Footage,
    poses: PoseSequence,
    fit: Fit,
    data: DataRecipe,
    figure: FigureRecipe,
    cache: Path,
    key: str,
    advance: Advance = silent,
    *,
    face_px: int = 0,
) -> TargetData:
    """Decode the video once into `cache` (a folder, made whole or not at all) and join it with its poses.

    Where `face_px` > 0 it holds faces of that size too. A cache of the same key is used as it is; of several processes
    of a machine one fills it, the others wait. Where `data.cache_gb` is too little for all frames, those are kept that
    `best_spread` chooses, and a notice says so. Raises FootageUnfit where too few pairs can be trained on,
    RecipeInvalid where the cache could not hold them, DiskFull.
    """
    assert len(poses) == video.frames, (len(poses), video.frames)
    split = split_by_time(len(poses), video.fps, data)
    room = _room(video, fit, data, face_px)
    short = room < video.frames
    if face_px or short:
        key = fingerprint(key, face_px, _digest(poses))
    if short:
        key = fingerprint(key, room, str(split), data.validation_fraction, SPREAD_VERSION)
    with only_one(cache.with_name(f".{cache.name}.lock")):
        if (held := open_cache(cache, key)) is None:
            frames = _kept(poses, split, video.cuts, data, room) if short else np.arange(video.frames)
            fill_cache(cache, key, video, frames, poses, fit, face_px, advance)
            held = open_cache(cache, key)
    assert held is not None, cache
    target = replace(_joined(held, poses, fit, split, figure), cuts=video.cuts, key=key)
    if short:
        told = f"kept {len(held.frames):,} of {len(poses):,} frames: the cache of {data.cache_gb:g} GB is short"
        target = replace(target, notices=(Notice("cache-short", f"{told}; best-spread by pose"),))
    train = len(target.pairs(split.train))
    if train < data.min_train_frames:
        raise FootageUnfit(
            "has too little to train on",
            file=video.path,
            expected=f"at least {data.min_train_frames} pairs of frames with a dancer in the training block",
            got=str(train),
        )
    return target


def _joined(held: FrameCache, poses: PoseSequence, fit: Fit, split: Split, figure: FigureRecipe) -> TargetData:
    xy, boxes = fit.points_to_picture(poses.xy), None
    if held.face_boxes is not None:
        boxes = fit.points_to_picture(held.face_boxes.reshape(-1, 2, 2)).reshape(-1, 4)
    rows = np.full(len(poses), -1, np.int64)
    rows[held.frames] = np.arange(len(held.frames))
    usable = poses.present.copy()
    usable[rows < 0] = False
    usable[held.frames[~held.decoded]] = False
    moved = PoseSequence(xy, poses.score, poses.topology, poses.fps, fit.picture_size, poses.notices)
    return TargetData(held.pictures, moved, usable, fit, split, figure, False, held.faces, boxes, rows)


def _room(video: Footage, fit: Fit, data: DataRecipe, face_px: int) -> int:
    """Frames that the cache may hold. Raises RecipeInvalid where they are too few to train on."""
    each = frame_bytes(fit, face_px)
    room = int(data.cache_gb * 1e9 / each)
    # A pair may take two frames, and validation has its part.
    least = ceil(2 * data.min_train_frames / (1 - data.validation_fraction)) + 2
    if room < min(least, video.frames):
        raise RecipeInvalid(
            "data.cache_gb is too little to train on",
            file=video.path,
            expected=f"at least {least * each / 1e9:.3g}, which holds {least} frames",
            got=f"{data.cache_gb:g}",
        )
    return room


def _kept(poses: PoseSequence, split: Split, cuts: tuple[int, ...], data: DataRecipe, room: int) -> NDArray[np.int64]:
    """Frames of the training block's best-spread pairs, and of some of the validation block's, evenly in time."""
    watched = paired(poses.present, split.validation, cuts)
    watched = watched[evenly(len(watched), max(1, round(room * data.validation_fraction / 2)))]
    validation = np.union1d(watched, watched - 1)
    train = best_spread(poses, paired(poses.present, split.train, cuts), room - len(validation))
    return np.concatenate([train, validation])


def _digest(poses: PoseSequence) -> str:
    """Of what the poses are, however they were found."""
    return hashlib.sha256(poses.xy.tobytes() + poses.score.tobytes()).hexdigest()
