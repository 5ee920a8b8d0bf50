"""A target from its videos to its training pairs; each step reuses its stored result."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import pairwise
from operator import add
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dancedist.data.background import video_background
from dancedist.data.crops import picture_pixels
from dancedist.data.frame_cache import CACHE_VERSION
from dancedist.data.pairs import TargetData
from dancedist.data.prepare import prepare
from dancedist.data.split import split_by_time
from dancedist.data.suitability import assess, require_suitable, sample_frames
from dancedist.errors import Notice
from dancedist.files import file_lock, file_sha256
from dancedist.pose.extract import extract_with_progress
from dancedist.pose.sequence import PoseSequence, concat_poses
from dancedist.progress import progress
from dancedist.recipe.fingerprint import fingerprint
from dancedist.recipe.schema import Recipe
from dancedist.retarget.stats import RetargetStats
from dancedist.skeleton.face import face_boxes
from dancedist.video.concat import Footage, identity, open_videos
from dancedist.video.letterbox import letterbox
from dancedist.weights import ensure

log = logging.getLogger("dancedist")


@dataclass(frozen=True, eq=False)
class Target:
    """A target ready for training: its video, poses in px of the video's frames, and training pairs.

    `name` and `sha256` identify the videos; `picture_pixels` is the area of the network's picture in px.
    """

    video: Footage
    name: str
    sha256: str
    poses: PoseSequence
    data: TargetData
    picture_pixels: int

    @property
    def stats(self) -> RetargetStats:
        """Sum over the videos. Each is measured by itself, because the ground position is smoothed over time."""
        bounds = pairwise((0, *self.video.cuts, len(self.poses)))
        per_video = [RetargetStats.of(self.poses.slice(*bound)) for bound in bounds]
        return reduce(add, per_video)

    @property
    def notices(self) -> tuple[Notice, ...]:
        """Notices of video, poses and pairs, each once."""
        return tuple(dict.fromkeys((*self.video.notices, *self.poses.notices, *self.data.notices)))


def load_target(
    paths: Path | Sequence[Path], recipe: Recipe, work: Path, *, poses_of: Sequence[PoseSequence] = ()
) -> Target:
    """Prepare a target in the folder `work`, or load what is stored there; face crops if the recipe has that stage.

    Several videos are one target; `poses_of` are the poses of each, if they are known. Processes that ask for the
    same target at once wait for the one that works.

    Raises VideoUnreadable, VideoTooLarge, NoDancer, FootageUnfit, WeightsMissing, RecipeInvalid, DiskFull.
    """
    _require_backbone(recipe)
    videos = path_list(paths)
    video = open_videos(videos, recipe.video)
    name, sha256 = identity(videos)
    poses = concat_poses(poses_of or _load_poses(video, videos, recipe, work), [part.path.name for part in video.parts])
    faces = face_boxes(poses)
    _require_suitable(video, name, poses, faces, recipe)
    pixels = _picture_pixels(video, poses, recipe)
    placed = letterbox((video.width, video.height), pixels, recipe.multiple)
    key = fingerprint(sha256, recipe.video.max_frame_pixels, placed.key, CACHE_VERSION)
    with progress(f"frames of {name}", video.frames) as advance:
        face_px = recipe.face.pixels if "face" in recipe.stages else 0
        cache = work / "pictures"
        data = prepare(
            video, poses, placed, recipe.data, recipe.figure, cache, key, advance, face_px=face_px, faces=faces
        )
    for notice in data.notices:
        log.warning("warning: %s: %s", name, notice)
    return Target(video, name, sha256, poses, data, pixels)


def background_of(target: Target, recipe: Recipe) -> NDArray[np.uint8] | None:
    """Estimate the background, uint8 RGB (H, W, 3) in the video's size; None if the recipe does not use one."""
    if not recipe.generator.background:
        return None
    return video_background(target.video, target.poses, target.data.train_frames())


def path_list(paths: Path | Sequence[Path]) -> list[Path]:
    """One path or several, as a list."""
    return [paths] if isinstance(paths, Path) else list(paths)


def poses_files(paths: Sequence[Path], work: Path) -> list[Path]:
    """Poses file of each video; files of several videos are named by content, so that their order may change."""
    if len(paths) == 1:
        return [work / "poses.parquet"]
    return [work / f"poses_{file_sha256(path)[:16]}.parquet" for path in paths]


def _require_backbone(recipe: Recipe) -> None:
    """Fail before poses are extracted, which takes long, not after."""
    if recipe.losses.perceptual_backbone != "none":
        ensure(recipe.losses.perceptual_backbone)


def _load_poses(video: Footage, paths: Sequence[Path], recipe: Recipe, work: Path) -> list[PoseSequence]:
    """Poses of each video by itself: no track and no smoothing crosses a cut."""
    poses = []
    for part, file in zip(video.parts, poses_files(paths, work), strict=True):
        with file_lock(file.with_name(f".{file.stem}.lock")):
            poses.append(extract_with_progress(part, file, recipe.pose))
    return poses


def _require_suitable(
    video: Footage, name: str, poses: PoseSequence, faces: NDArray[np.float32], recipe: Recipe
) -> None:
    """Refuse unsuitable footage, and log warnings about the rest."""
    report = assess(video, poses, sample_frames(video), recipe.data, faces)
    require_suitable(report)
    for finding in report.findings:
        if finding.verdict == "warn":
            log.warning("warning: %s: %s", name, finding.message)


def _picture_pixels(video: Footage, poses: PoseSequence, recipe: Recipe) -> int:
    """Area of the network's picture in px, from the poses of the training block."""
    block = split_by_time(len(poses), video.fps, recipe.data).train
    return picture_pixels(poses.slice(block.start, block.stop), recipe)
