"""All that a stage of training is at one step: networks, optimisers, the average of the weights."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from dancedist.recipe import TrainingRecipe
from dancedist.training.engine import Engine, MakeEngine

FORMAT = 4


@dataclass
class TrainingState:
    """Both networks in their engines, the generator's EMA, the steps done in this stage, all seconds.

    `main`: the finished generator that a face stage refines; it learns no more.
    """

    generator: Engine
    discriminator: Engine
    ema: AveragedModel
    main: nn.Module | None = None
    step: int = 0
    seconds: float = 0.0


def new_state(
    generator: nn.Module, discriminator: nn.Module, recipe: TrainingRecipe, engine: MakeEngine
) -> TrainingState:
    """Step 0 of a stage, with networks that are where they shall learn."""
    on_gpu = next(generator.parameters()).is_cuda
    # On a processor Adam copies such weights at every step, and the convolutions gain nothing (benchmarks/NOTES.md).
    if recipe.channels_last and on_gpu:
        for network in (generator, discriminator):
            network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    ema = AveragedModel(generator, multi_avg_fn=get_ema_multi_avg_fn(recipe.ema_decay))  # type: ignore[no-untyped-call]
    # A processor's steps are no faster for it (benchmarks/NOTES.md), and wait a minute for the first.
    if recipe.compiled and on_gpu:
        for network in (generator, discriminator):
            # Of one size: sizes that vary, as windows do, are each compiled, up to a limit.
            network.compile(dynamic=False)
    engines = []
    for network in (generator, discriminator):
        # Fused: one pass over memory; and moments too small to be normal numbers cost nothing.
        optimizer = torch.optim.Adam(network.parameters(), recipe.learning_rate, recipe.betas, fused=True)
        engines.append(engine(network, optimizer, recipe.accumulate, recipe.clip_norm))
    return TrainingState(engines[0], engines[1], ema)


def write_state(state: TrainingState, folder: Path, fingerprint: str, *, first: bool = True) -> None:
    """Write all of it into a folder; of several ranks each its own, and the `first` what they have in common."""
    state.generator.save(folder / "generator")
    state.discriminator.save(folder / "discriminator")
    if first:
        facts = {"format": FORMAT, "fingerprint": fingerprint, "step": state.step, "seconds": state.seconds}
        main = None if state.main is None else state.main.state_dict()
        torch.save({**facts, "ema": state.ema.state_dict(), "main": main}, folder / "common.pt")


def read_common(folder: Path) -> dict[str, Any] | None:
    """What all ranks have in common in a checkpoint; None for one that is cut short or of another format."""
    try:
        common: dict[str, Any] = torch.load(folder / "common.pt", map_location="cpu", weights_only=True)
    except FileNotFoundError:
        return None
    return common if common.get("format") == FORMAT else None


def read_state(state: TrainingState, folder: Path, common: dict[str, Any]) -> None:
    """Inverse of `write_state`, from a folder with the parts of all ranks, into a new state of the same stage."""
    state.generator.load(folder / "generator")
    state.discriminator.load(folder / "discriminator")
    state.ema.load_state_dict(common["ema"])
    if state.main is not None:
        state.main.load_state_dict(common["main"])
    state.step, state.seconds = common["step"], common["seconds"]
