"""What the stages of a training have in common: what they learn from, and how one step of any of them goes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from dancedist.data.pairs import TargetData
from dancedist.models.activation_checkpointing import recompute
from dancedist.models.augment import diff_augment
from dancedist.models.losses import Perceptual
from dancedist.recipe import Recipe
from dancedist.training.engine import MakeEngine, Ranks
from dancedist.training.schedule import learning_rate, step_pairs
from dancedist.training.state import TrainingState
from dancedist.weights import load_backbone

Losses = dict[str, Tensor]
Weights = Mapping[str, Tensor]


@dataclass(frozen=True, eq=False)
class Lesson:
    """What a stage learns from, and by what means.

    `recipe` as the stage reads it; `data` in the stage's size; `backdrop` uint8 (h, w, 3), the empty stage in that
    size, where the recipe has one, and `detail` float32 (H, W, 3), what that size loses of it; `pairs` (N,) the frames
    t of the pairs.
    """

    recipe: Recipe
    data: TargetData
    backdrop: NDArray[np.uint8] | None
    detail: NDArray[np.float32] | None
    pairs: NDArray[np.int64]
    steps: int
    device: torch.device
    engine: MakeEngine
    ranks: Ranks

    @property
    def bf16(self) -> bool:
        """Whether to compute in bf16."""
        return uses_bf16(self.recipe.training.precision, self.device)

    def rng(self, purpose: int, step: int, part: int) -> np.random.Generator:
        """Chance as a function of the step, so that a training taken up again sees what it would have seen.

        It is drawn for the pairs of all ranks. The first part of a batch has that of a batch that is not cut.
        """
        return np.random.default_rng([self.recipe.training.seed, purpose + 10 * part, step])

    def parts(self, step: int) -> list[NDArray[np.int64]]:
        """The pairs of a step, all ranks' together, in the parts that are seen one after another."""
        every = step_pairs(step, self.pairs, self.recipe.training)
        return np.split(every, self.recipe.training.accumulate)

    def judged(self, judged_BCHW: Tensor, step: int, part: int) -> Tensor:
        """What the discriminator is to see of this rank's pairs: as it is, or changed at random."""
        training = self.recipe.training
        if not training.augment:
            return judged_BCHW
        chance = self.rng(3, step, part).random((training.batch_pairs // training.accumulate, 5))
        return diff_augment(judged_BCHW, torch.from_numpy(self.ranks.mine(chance)))


class Stage(Protocol):
    """One stage of a training."""

    lesson: Lesson
    state: TrainingState

    def part_losses(self, t: NDArray[np.int64], part: int) -> tuple[Losses, Losses]:
        """Losses of generator and discriminator for one part of a batch: pairs that end at frames `t`, of all ranks."""

    def sample(self, path: Path) -> None:
        """PNG of what it can by now, on frames of the validation block."""


def run_step(stage: Stage) -> dict[str, float]:
    """One step of generator and discriminator; returns the losses, means over parts and ranks."""
    state, lesson = stage.state, stage.lesson
    training, sums = lesson.recipe.training, dict[str, float]()
    rate = learning_rate(state.step, lesson.steps, training)
    for part, t in enumerate(lesson.parts(state.step)):
        # Its cache would hold all weights in bf16 until both networks are through.
        with torch.autocast(lesson.device.type, torch.bfloat16, lesson.bf16, cache_enabled=not training.save_memory):
            g, d = stage.part_losses(t, part)
        for engine, losses in ((state.generator, g), (state.discriminator, d)):
            engine.backward(torch.stack(list(losses.values())).sum())
            engine.step(rate)
        for name, value in (g | d).items():
            sums[name] = sums.get(name, 0.0) + float(value.detach()) / training.accumulate
    with state.generator.whole():
        state.ema.update_parameters(state.generator.module)
    state.step += 1
    return lesson.ranks.mean(sums)


def uses_bf16(precision: str, device: torch.device) -> bool:
    """Whether to train in bf16; `auto` asks the processor."""
    if precision != "auto":
        return precision == "bf16"
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported())
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def perceptual_loss(recipe: Recipe, device: torch.device) -> Perceptual | None:
    """The recipe's VGG loss; None where it has none. Raises WeightsMissing."""
    backbone = recipe.losses.perceptual_backbone
    if backbone == "none" or recipe.losses.perceptual == 0:
        return None
    loss = _perceptual(backbone, recipe.losses.perceptual_stages, recipe.training.save_memory).to(device)
    if recipe.training.channels_last:
        loss = loss.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return loss


@cache
def _perceptual(backbone: str, stages: int, save_memory: bool) -> Perceptual:
    loss = Perceptual(backbone, load_backbone(backbone), stages, one_by_one=save_memory)  # type: ignore[arg-type]
    if save_memory:
        recompute(loss.slices)
    return loss


def overlay(network: nn.Module, weights: Weights) -> None:
    """Give a network those weights that it has by the same name and shape."""
    own = network.state_dict()
    fits = {n: w for n, w in weights.items() if n in own and own[n].shape == w.shape}
    network.load_state_dict({**own, **fits})
