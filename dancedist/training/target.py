"""One target from its film to its bundle; every stage is skipped where its result is there already."""

from __future__ import annotations

import logging
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import reduce
from itertools import pairwise
from operator import add
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from dancedist import __version__
from dancedist.bundle.bundle import Bundle, Dancer, Provenance, load_bundle, save_bundle
from dancedist.data.background import CODE_VERSION as STAGE_VERSION
from dancedist.data.background import film_stage
from dancedist.data.crops import picture_pixels
from dancedist.data.frame_cache import CACHE_VERSION
from dancedist.data.pairs import TargetData
from dancedist.data.prepare import prepare
from dancedist.data.split import split_by_time
from dancedist.data.suitability import assess, require_fit, sample_frames
from dancedist.errors import FileInvalid, Notice
from dancedist.files import only_one
from dancedist.pose.extract import extract_with_progress
from dancedist.pose.sequence import PoseSequence, joined
from dancedist.progress import progress
from dancedist.recipe import Recipe, file_sha256, fingerprint
from dancedist.retarget.stats import RetargetStats
from dancedist.training.loop import CODE_VERSION, Trainer, trained_parts
from dancedist.training.stages import Weights
from dancedist.video.concat import Footage, identity, open_footage
from dancedist.video.letterbox import fit
from dancedist.weights import ensure

log = logging.getLogger("dancedist")


@dataclass(frozen=True, eq=False)
class Target:
    """A target ready to be trained on: its film, poses in px of the film's frames, pictures and pairs."""

    video: Footage
    name: str
    sha256: str
    poses: PoseSequence
    data: TargetData
    picture_pixels: int

    @property
    def stats(self) -> RetargetStats:
        """Of all videos; each by itself, for the ground is smoothed in time."""
        bounds = pairwise((0, *self.video.cuts, len(self.poses)))
        counted = [RetargetStats.of(self.poses.slice(*bound)) for bound in bounds]
        return reduce(add, counted)

    @property
    def notices(self) -> tuple[Notice, ...]:
        """What degraded on the way from the film to the pairs."""
        return tuple(dict.fromkeys((*self.video.notices, *self.poses.notices, *self.data.notices)))


def load_target(
    paths: Path | Sequence[Path], recipe: Recipe, work: Path, *, poses_of: Sequence[PoseSequence] = ()
) -> Target:
    """Poses and pictures of a target, made in `work` or found there; faces too, where the recipe has their stage.

    Several videos are one target; `poses_of` each of them where they were found before. Several processes may ask at
    once: one works, the others wait.

    Raises VideoUnreadable, VideoTooLarge, NoDancer, FootageUnfit, WeightsMissing, RecipeInvalid, DiskFull.
    """
    if recipe.losses.perceptual_backbone != "none":
        # Told now, not after the poses are found.
        ensure(recipe.losses.perceptual_backbone)
    listed = listed_paths(paths)
    video = open_footage(listed, recipe.video)
    name, sha256 = identity(listed)
    found = poses_of or _find_poses(video, poses_files(listed, work), recipe)
    poses = joined(found, [part.path.name for part in video.parts])
    report = assess(video, poses, sample_frames(video), recipe.data)
    require_fit(report)
    for finding in report.findings:
        if finding.verdict == "warn":
            log.warning("warning: %s: %s", name, finding.message)
    block = split_by_time(len(poses), video.fps, recipe.data).train
    pixels = picture_pixels(poses.slice(block.start, block.stop), recipe)
    placed = fit((video.width, video.height), pixels, recipe.multiple)
    key = fingerprint(sha256, recipe.video.max_frame_pixels, str(placed), CACHE_VERSION)
    face_px = recipe.face.pixels if "face" in recipe.stages else 0
    with progress(f"pictures of {name}", video.frames) as advance:
        folder = work / "pictures"
        data = prepare(video, poses, placed, recipe.data, recipe.figure, folder, key, advance, face_px=face_px)
    for notice in data.notices:
        log.warning("warning: %s: %s", name, notice)
    return Target(video, name, sha256, poses, data, pixels)


def listed_paths(paths: Path | Sequence[Path]) -> list[Path]:
    """One path is a list of one."""
    return [paths] if isinstance(paths, Path) else list(paths)


def poses_files(paths: Sequence[Path], work: Path) -> list[Path]:
    """Where the poses of each video are made or found: of several, by content, so that their order may change."""
    if len(paths) == 1:
        return [work / "poses.parquet"]
    return [work / f"poses_{file_sha256(path)[:16]}.parquet" for path in paths]


def _find_poses(video: Footage, files: Sequence[Path], recipe: Recipe) -> list[PoseSequence]:
    """Of each video by itself: nothing is followed or smoothed across a cut."""
    found = []
    for part, file in zip(video.parts, files, strict=True):
        with only_one(file.with_name(f".{file.stem}.lock")):
            found.append(extract_with_progress(part, file, recipe.pose))
    return found


def train_dancer(
    target: Target, recipe: Recipe, name: str, work: Path, out: Path, first: Bundle | None = None
) -> Bundle:
    """Train in `work` (log.jsonl, losses.png, samples, checkpoints), then leave the bundle in the folder `out`.

    Taken up where it was broken off; a finished one is loaded. `first`: a dancer whose weights it begins with.
    Raises WeightsMissing, TrainingDiverged, FileInvalid for a `first` of other networks.
    """
    key = training_fingerprint(target, recipe, first)
    if (done := finished(out, key)) is not None:
        log.info("%s is trained already: %s", name, out)
        return done
    stage = empty_stage(target, recipe)
    begun = first_weights(first, recipe)
    trainer = Trainer(target.data, recipe, work, target_fingerprint(target, first), stage, first=begun)
    if trainer.step:
        log.info("training of %s goes on at step %d of %d", name, trainer.step, trainer.steps)
    with progress(f"training {name}", trainer.steps, "steps") as advance:
        trainer.run(advance)
    return leave_bundle(target, trainer, name, key, out)


def empty_stage(target: Target, recipe: Recipe) -> NDArray[np.uint8] | None:
    """What the recipe paints over, uint8 (H, W, 3) in the film's size; None where it has no backdrop."""
    if not recipe.generator.backdrop:
        return None
    return film_stage(target.video, target.poses, target.data.train_frames())


def first_weights(first: Bundle | None, recipe: Recipe) -> dict[str, Weights]:
    """A dancer's weights to begin another's training with. Raises FileInvalid where its networks are others."""
    if first is None:
        return {}
    theirs, ours = first.dancer.recipe, recipe
    for part in ("generator", "local", "face"):
        used = part == "generator" or (part in theirs.stages and part in ours.stages)
        if used and _shape(theirs, part) != _shape(ours, part):
            expected, got = str(_shape(ours, part)), str(_shape(theirs, part))
            raise FileInvalid("has other networks", file=first.dancer.name, expected=expected, got=got)
    weights: dict[str, Weights] = {"generator": first.generator.state_dict()}
    return weights if first.face is None else {**weights, "face": first.face.state_dict()}


def leave_bundle(target: Target, trainer: Trainer, name: str, key: str, out: Path) -> Bundle:
    """Write the bundle of a finished training into the folder `out`."""
    recipe, video = trainer.recipe, target.video
    dancer = Dancer(
        name=name,
        recipe=recipe,
        topology=target.poses.topology.name,
        fps=str(video.fps),
        frame_size=(video.width, video.height),
        picture_pixels=target.picture_pixels,
        stats=target.stats.to_dict(),
        provenance=Provenance(
            video=target.name,
            video_sha256=target.sha256,
            poses_fingerprint=target.poses.fingerprint,
            training_fingerprint=key,
            steps=trainer.steps,
            train_frames=len(target.data.pairs(target.data.split.train)),
            seconds=round(trainer.state.seconds, 1),
            machine=f"{trainer.device.type}, {torch.get_num_threads()} threads, {platform.machine()}",
            versions={"dancedist": __version__, "torch": torch.__version__},
            finished=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        ),
    )
    sample = trainer.folder / f"sample_{trainer.steps:06d}.png"
    save_bundle(out, dancer, trainer.finished(), trainer.backdrop, sample)
    return load_bundle(out)


def target_fingerprint(target: Target, first: Bundle | None = None) -> str:
    """Of what is learnt from, whatever the recipe makes of it; `first` is what it begins with."""
    begun = [] if first is None else [first.dancer.weights_sha256, first.dancer.face_sha256 or ""]
    # Where the cache was short, other frames would have been kept with another budget.
    kept = target.data.key if target.data.notices else ""
    return fingerprint(target.sha256, target.poses.fingerprint, kept, *begun, STAGE_VERSION)


def training_fingerprint(target: Target, recipe: Recipe, first: Bundle | None = None) -> str:
    """Of everything that decides the weights."""
    return fingerprint(target_fingerprint(target, first), *trained_parts(recipe), CODE_VERSION)


def _shape(recipe: Recipe, part: str) -> dict[str, object]:
    """What decides the shapes of a network's weights."""
    names = {
        "generator": ("filters", "downsamplings", "blocks", "patch", "backdrop"),
        "local": ("blocks",),
        "face": ("filters", "downsamplings", "blocks", "paints_over"),
    }
    return {name: getattr(getattr(recipe, part), name) for name in names[part]}


def finished(out: Path, key: str) -> Bundle | None:
    """The bundle of a training that was done before; None where there is none, or of something else."""
    if not (out / "dancer.json").exists():
        return None
    try:
        bundle = load_bundle(out)
    except FileInvalid as error:
        log.warning("trained again: %s", error)
        return None
    return bundle if bundle.dancer.provenance.training_fingerprint == key else None
