"""All that a training is at one step: networks, optimisers, the average of the weights. Saved whole or not at all."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import torch
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from dancedist.files import published_folder
from dancedist.gan.discriminator import Discriminator
from dancedist.gan.generator import build_generator
from dancedist.recipe import Recipe
from dancedist.training.engine import Engine, MakeEngine, TorchEngine

FORMAT = 3


@dataclass
class TrainingState:
    """Both networks in their engines, the generator's EMA, the steps done and the seconds they took."""

    generator: Engine
    discriminator: Engine
    ema: AveragedModel
    step: int = 0
    seconds: float = 0.0


def new_state(recipe: Recipe, device: torch.device, engine: MakeEngine = TorchEngine) -> TrainingState:
    """Step 0: weights drawn from the recipe's seed."""
    t, d = recipe.training, recipe.discriminator
    with torch.random.fork_rng():
        torch.manual_seed(t.seed)
        generator = build_generator(recipe.generator).to(device)
        channels = 12 if t.temporal else 6
        discriminator = Discriminator(channels, d.filters, d.layers, d.scales).to(device)
    ema = AveragedModel(generator, multi_avg_fn=get_ema_multi_avg_fn(t.ema_decay))  # type: ignore[no-untyped-call]
    engines = [
        engine(n, torch.optim.Adam(n.parameters(), t.learning_rate, t.betas)) for n in (generator, discriminator)
    ]
    return TrainingState(engines[0], engines[1], ema)


def save_state(state: TrainingState, folder: Path, fingerprint: str) -> None:
    """Leave a checkpoint `step_NNNNNN` in `folder`, and no other. A kill at any instant leaves this or the last."""
    with published_folder(folder / f"step_{state.step:06d}") as partial:
        write_state(state, partial, fingerprint)
    for other in folder.glob("step_*"):
        if other.name != f"step_{state.step:06d}":
            shutil.rmtree(other, ignore_errors=True)


def load_state(state: TrainingState, folder: Path, fingerprint: str) -> bool:
    """Take up the last checkpoint; False, and nothing done, where there is none of this fingerprint."""
    return any(read_state(state, path, fingerprint) for path in sorted(folder.glob("step_*"), reverse=True))


def write_state(state: TrainingState, folder: Path, fingerprint: str, *, first: bool = True) -> None:
    """Write all of it into a folder; of several ranks each its own, and the `first` what they have in common."""
    state.generator.save(folder / "generator")
    state.discriminator.save(folder / "discriminator")
    if first:
        facts = {"format": FORMAT, "fingerprint": fingerprint, "step": state.step, "seconds": state.seconds}
        torch.save({**facts, "ema": state.ema.state_dict()}, folder / "common.pt")


def read_state(state: TrainingState, folder: Path, fingerprint: str) -> bool:
    """Inverse of `write_state`, from a folder with the parts of all ranks; False where it is of something else."""
    if not (folder / "common.pt").exists():
        return False
    common = torch.load(folder / "common.pt", map_location="cpu", weights_only=True)
    if (common.get("format"), common["fingerprint"]) != (FORMAT, fingerprint):
        return False
    state.generator.load(folder / "generator")
    state.discriminator.load(folder / "discriminator")
    state.ema.load_state_dict(common["ema"])
    state.step, state.seconds = common["step"], common["seconds"]
    return True
