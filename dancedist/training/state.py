"""State of a training stage at one step: networks, optimisers, averaged weights."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from dancedist.recipe.schema import TrainingRecipe
from dancedist.training.engine import Engine, MakeEngine

FORMAT = 4


@dataclass
class TrainingState:
    """Generator and discriminator in their engines, the generator's EMA, steps of this stage, seconds of all stages.

    `main` is the finished generator that a face stage refines; it is not trained any more.
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
    """State at step 0 of a stage, for networks already on the training device."""
    on_gpu = next(generator.parameters()).is_cuda
    # On a CPU, Adam copies channels-last weights at every step, and convolutions gain nothing (benchmarks/NOTES.md).
    if recipe.channels_last and on_gpu:
        for network in (generator, discriminator):
            network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    ema = AveragedModel(generator, multi_avg_fn=get_ema_multi_avg_fn(recipe.ema_decay))  # type: ignore[no-untyped-call]
    # On a CPU, compiled steps are not faster (benchmarks/NOTES.md), and the first one takes a minute.
    if recipe.compiled and on_gpu:
        for network in (generator, discriminator):
            # Static shapes: each size of a window is compiled by itself, up to torch's limit.
            network.compile(dynamic=False)
    engines = []
    for network in (generator, discriminator):
        # Fused Adam: one pass over memory, and denormal moments cost no time.
        optimizer = torch.optim.Adam(network.parameters(), recipe.learning_rate, recipe.betas, fused=True)
        engines.append(engine(network, optimizer, recipe.accumulate, recipe.clip_norm))
    return TrainingState(engines[0], engines[1], ema)


def write_state(state: TrainingState, folder: Path, fingerprint: str, *, is_rank_zero: bool = True) -> None:
    """Write a checkpoint into a folder: each rank its own part, rank zero also the common part."""
    state.generator.save(folder / "generator")
    state.discriminator.save(folder / "discriminator")
    if is_rank_zero:
        facts = {"format": FORMAT, "fingerprint": fingerprint, "step": state.step, "seconds": state.seconds}
        main = None if state.main is None else state.main.state_dict()
        torch.save({**facts, "ema": state.ema.state_dict(), "main": main}, folder / "common.pt")


def read_common(folder: Path) -> dict[str, Any] | None:
    """Read the common part of a checkpoint; None for one that is incomplete or of another format."""
    try:
        common: dict[str, Any] = torch.load(folder / "common.pt", map_location="cpu", weights_only=True)
    except FileNotFoundError:
        return None
    return common if common.get("format") == FORMAT else None


def read_state(state: TrainingState, folder: Path, common: dict[str, Any]) -> None:
    """Restore a checkpoint into a new state of the same stage; `folder` has the parts of all ranks."""
    state.generator.load(folder / "generator")
    state.discriminator.load(folder / "discriminator")
    state.ema.load_state_dict(common["ema"])
    if state.main is not None:
        state.main.load_state_dict(common["main"])
    state.step, state.seconds = common["step"], common["seconds"]
