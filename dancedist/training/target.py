"""One target from its film to its bundle; every stage is skipped where its result is there already."""

from __future__ import annotations

import logging
import platform
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import torch

from dancedist import __version__
from dancedist.bundle import Bundle, Dancer, Provenance, load_bundle, save_bundle
from dancedist.cache import CACHE_VERSION
from dancedist.errors import FileInvalid
from dancedist.footage import assess, require_fit, sample_frames
from dancedist.pairs import TargetData, prepare, split_by_time
from dancedist.pose.extract import extract_with_progress
from dancedist.pose.sequence import PoseSequence
from dancedist.progress import progress
from dancedist.recipe import Recipe, file_sha256, fingerprint
from dancedist.retarget.stats import RetargetStats
from dancedist.stage import CODE_VERSION as STAGE_VERSION
from dancedist.stage import film_stage
from dancedist.training.loop import CODE_VERSION, Trainer
from dancedist.video.fit import fit
from dancedist.video.probe import Video, probe
from dancedist.views import picture_pixels
from dancedist.weights import ensure

log = logging.getLogger("dancedist")


@dataclass(frozen=True, eq=False)
class Target:
    """A target ready to be trained on: its film, poses in px of the film's frames, pictures and pairs."""

    video: Video
    sha256: str
    poses: PoseSequence
    data: TargetData
    picture_pixels: int


def load_target(path: Path, recipe: Recipe, work: Path, *, face_px: int = 0) -> Target:
    """Poses and pictures of a target, made in `work` or found there; where `face_px` > 0, faces of that size too.

    Raises VideoUnreadable, VideoTooLarge, NoDancer, FootageUnfit, WeightsMissing.
    """
    if recipe.losses.perceptual_backbone != "none":
        # Told now, not after the poses are found.
        ensure(recipe.losses.perceptual_backbone)
    video = probe(path, recipe.video)
    sha256 = file_sha256(path)
    poses = extract_with_progress(video, work / "poses.parquet", recipe.pose)
    report = assess(video, poses, sample_frames(video), recipe.data)
    require_fit(report)
    for finding in report.findings:
        if finding.verdict == "warn":
            log.warning("warning: %s: %s", path.name, finding.message)
    block = split_by_time(len(poses), video.fps, recipe.data).train
    pixels = picture_pixels(poses.slice(block.start, block.stop), recipe)
    placed = fit((video.width, video.height), pixels, recipe.generator.multiple)
    key = fingerprint(sha256, recipe.video.max_frame_pixels, str(placed), CACHE_VERSION)
    with progress(f"pictures of {path.name}", video.frames) as advance:
        data = prepare(
            video, poses, placed, recipe.data, recipe.figure, work / "pictures", key, advance, face_px=face_px
        )
    return Target(video, sha256, poses, data, pixels)


def train_dancer(target: Target, recipe: Recipe, name: str, work: Path, out: Path) -> Bundle:
    """Train in `work` (log.jsonl, losses.png, samples, a checkpoint), then leave the bundle in the folder `out`.

    Taken up where it was broken off; a finished one is loaded. Raises WeightsMissing.
    """
    key = training_fingerprint(target, recipe)
    done = _finished(out, key)
    if done is not None:
        log.info("%s is trained already: %s", name, out)
        return done
    frames = target.data.train_frames()
    stage = film_stage(target.video, target.poses, frames) if recipe.generator.backdrop else None
    trainer = Trainer(target.data, recipe, work, key, stage)
    if trainer.state.step:
        log.info("training of %s goes on at step %d of %d", name, trainer.state.step, trainer.steps)
    with progress(f"training {name}", trainer.steps, "steps") as advance:
        trainer.run(advance)
    width, height = target.video.width, target.video.height
    dancer = Dancer(
        name=name,
        recipe=recipe,
        topology=target.poses.topology.name,
        fps=str(target.video.fps),
        frame_size=(width, height),
        picture_pixels=target.picture_pixels,
        stats=RetargetStats.of(target.poses).to_dict(),
        provenance=Provenance(
            video=target.video.path.name,
            video_sha256=target.sha256,
            poses_fingerprint=target.poses.fingerprint,
            training_fingerprint=key,
            steps=trainer.steps,
            train_frames=len(trainer.pairs),
            seconds=round(trainer.state.seconds, 1),
            machine=f"{trainer.device.type}, {torch.get_num_threads()} threads, {platform.machine()}",
            versions={"dancedist": __version__, "torch": torch.__version__},
            finished=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        ),
    )
    sample = work / f"sample_{trainer.steps:06d}.png"
    save_bundle(out, dancer, trainer.state.ema.module.state_dict(), stage, sample)
    return load_bundle(out)


def training_fingerprint(target: Target, recipe: Recipe) -> str:
    """Of everything that decides the weights."""
    parts = (recipe.figure, recipe.data, recipe.generator, recipe.discriminator, recipe.losses, recipe.training)
    return fingerprint(target.sha256, target.poses.fingerprint, *parts, CODE_VERSION, STAGE_VERSION)


def _finished(out: Path, key: str) -> Bundle | None:
    if not (out / "dancer.json").exists():
        return None
    try:
        bundle = load_bundle(out)
    except FileInvalid as error:
        log.warning("trained again: %s", error)
        return None
    return bundle if bundle.dancer.provenance.training_fingerprint == key else None
