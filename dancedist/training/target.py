"""Training of one target, from its pairs to its bundle."""

from __future__ import annotations

import logging
import platform
from datetime import UTC, datetime
from pathlib import Path

import torch

from dancedist import __version__
from dancedist.bundle.bundle import Bundle, load_bundle, save_bundle
from dancedist.bundle.record import Dancer, Provenance
from dancedist.data.background import BACKGROUND_VERSION
from dancedist.data.target import Target, background_of
from dancedist.errors import FileInvalid
from dancedist.progress import progress
from dancedist.recipe.fingerprint import fingerprint
from dancedist.recipe.schema import Recipe
from dancedist.training.loop import TRAINING_VERSION, Trainer, trained_parts
from dancedist.training.stages import Weights

log = logging.getLogger("dancedist")


def train_dancer(
    target: Target, recipe: Recipe, name: str, work: Path, out: Path, initial: Bundle | None = None
) -> Bundle:
    """Train a dancer in `work` (log.jsonl, losses.png, samples, checkpoints), and write its bundle to `out`.

    An interrupted training is resumed; a finished one is loaded. `initial` is another dancer for a warm start.
    Raises WeightsMissing, TrainingDiverged, FileInvalid for an `initial` dancer of another network architecture.
    """
    key = training_fingerprint(target, recipe, initial)
    if (bundle := existing_bundle(out, key)) is not None:
        log.info("%s is already trained: %s", name, out)
        return bundle
    background, weights = background_of(target, recipe), initial_weights(initial, recipe)
    trainer = Trainer(target.data, recipe, work, target_fingerprint(target, initial), background, initial=weights)
    if trainer.step:
        log.info("resuming the training of %s at step %d of %d", name, trainer.step, trainer.steps)
    with progress(f"training {name}", trainer.steps, "steps") as advance:
        trainer.run(advance)
    return write_bundle(target, trainer, name, key, out)


def initial_weights(initial: Bundle | None, recipe: Recipe) -> dict[str, Weights]:
    """Weights of another dancer for a warm start. Raises FileInvalid if its network architecture differs."""
    if initial is None:
        return {}
    for part in ("generator", "local", "face"):
        _require_same_shape(initial, recipe, part)
    weights: dict[str, Weights] = {"generator": initial.generator.state_dict()}
    return weights if initial.face is None else {**weights, "face": initial.face.state_dict()}


def write_bundle(target: Target, trainer: Trainer, name: str, key: str, out: Path) -> Bundle:
    """Write the bundle of a finished training into the folder `out`, and load it."""
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
    save_bundle(out, dancer, trainer.final_weights(), trainer.background, sample)
    return load_bundle(out)


def existing_bundle(out: Path, key: str) -> Bundle | None:
    """The bundle of an earlier training with this fingerprint; None if `out` has none, or another one."""
    if not (out / "dancer.json").exists():
        return None
    try:
        bundle = load_bundle(out)
    except FileInvalid as error:
        log.warning("training again, because the stored bundle cannot be used: %s", error)
        return None
    return bundle if bundle.dancer.provenance.training_fingerprint == key else None


def target_fingerprint(target: Target, initial: Bundle | None = None) -> str:
    """Fingerprint of the training data and initial weights, independent of the recipe."""
    weights = [] if initial is None else [initial.dancer.weights_sha256, initial.dancer.face_sha256 or ""]
    # If the cache was too small, another size of it would have held other frames.
    cache_key = target.data.key if target.data.notices else ""
    return fingerprint(target.sha256, target.poses.fingerprint, cache_key, *weights, BACKGROUND_VERSION)


def training_fingerprint(target: Target, recipe: Recipe, initial: Bundle | None = None) -> str:
    """Fingerprint of everything that determines the weights."""
    return fingerprint(target_fingerprint(target, initial), *trained_parts(recipe), TRAINING_VERSION)


def _require_same_shape(initial: Bundle, recipe: Recipe, part: str) -> None:
    """Raise FileInvalid if a part that both dancers have differs in architecture."""
    theirs = initial.dancer.recipe
    in_both = part == "generator" or (part in theirs.stages and part in recipe.stages)
    if in_both and _shape(theirs, part) != _shape(recipe, part):
        expected, got = str(_shape(recipe, part)), str(_shape(theirs, part))
        raise FileInvalid("has another network architecture", file=initial.dancer.name, expected=expected, got=got)


def _shape(recipe: Recipe, part: str) -> dict[str, object]:
    """Settings that determine the shapes of a network's weights."""
    names = {
        "generator": ("filters", "downsamplings", "blocks", "patch", "background"),
        "local": ("blocks",),
        "face": ("filters", "downsamplings", "blocks", "predicts_mask"),
    }
    return {name: getattr(getattr(recipe, part), name) for name in names[part]}
