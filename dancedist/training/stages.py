"""Common parts of the training stages: their inputs, the interface, and one training step."""

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
from dancedist.models.activation_checkpointing import checkpoint_activations
from dancedist.models.augment import diff_augment
from dancedist.models.losses import Perceptual
from dancedist.processor import has_bf16
from dancedist.recipe.schema import Recipe
from dancedist.training.engine import MakeEngine, Ranks
from dancedist.training.schedule import learning_rate, step_pairs
from dancedist.training.state import TrainingState
from dancedist.weights import load_backbone

Losses = dict[str, Tensor]
Weights = Mapping[str, Tensor]


@dataclass(frozen=True, eq=False)
class StageContext:
    """Inputs of a stage.

    `recipe`: as it applies to this stage (`Recipe.at_stage`).
    `data`: the target's pictures at the stage's size.
    `background` uint8 RGB (h, w, 3): in that size; None if the recipe does not use one.
    `detail` float32 (H, W, 3): background detail lost at that size, in px values of the video's size.
    `pairs` int64 (N,): frames t at which the training pairs end.
    """

    recipe: Recipe
    data: TargetData
    background: NDArray[np.uint8] | None
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

    def rng(self, purpose: int, step: int, micro_batch: int) -> np.random.Generator:
        """Random numbers that depend on the step alone, so that a resumed training sees the same ones.

        They are drawn for the pairs of all ranks. The first micro-batch has those of a batch that is not split.
        """
        return np.random.default_rng([self.recipe.training.seed, purpose + 10 * micro_batch, step])

    def micro_batches(self, step: int) -> list[NDArray[np.int64]]:
        """The pairs of a step, of all ranks, split into micro-batches: int64 (B,) frame indices each."""
        batch = step_pairs(step, self.pairs, self.recipe.training)
        return np.split(batch, self.recipe.training.accumulate)

    def augmented(self, x_BCHW: Tensor, step: int, micro_batch: int) -> Tensor:
        """The discriminator's input for this rank's pairs, augmented if the recipe says so.

        float (B, C, H, W) in [-1, 1] -> the same shape.
        """
        training = self.recipe.training
        if not training.augment:
            return x_BCHW
        chance = self.rng(3, step, micro_batch).random((training.batch_pairs // training.accumulate, 5))
        return diff_augment(x_BCHW, torch.from_numpy(self.ranks.shard(chance)))


class Stage(Protocol):
    """One stage of a training."""

    context: StageContext
    state: TrainingState

    def micro_batch_losses(self, t: NDArray[np.int64], index: int) -> tuple[Losses, Losses]:
        """Losses of generator and discriminator for a micro-batch, float32 scalars by name.

        `t` int64 (B,) are the frame indices at which its pairs end, of all ranks; `index` is its number in the batch.
        """

    def sample(self, path: Path) -> None:
        """Write a PNG of current results on frames of the validation block."""


def run_step(stage: Stage) -> dict[str, float]:
    """Run one step of generator and discriminator; returns the losses, averaged over micro-batches and ranks."""
    state, context = stage.state, stage.context
    training, sums = context.recipe.training, dict[str, float]()
    rate = learning_rate(state.step, context.steps, training)
    for index, t in enumerate(context.micro_batches(state.step)):
        # Autocast's cache would hold all weights in bf16 until both networks are done.
        with torch.autocast(context.device.type, torch.bfloat16, context.bf16, cache_enabled=not training.save_memory):
            g, d = stage.micro_batch_losses(t, index)
        for engine, losses in ((state.generator, g), (state.discriminator, d)):
            engine.backward(torch.stack(list(losses.values())).sum())
            engine.step(rate)
        for name, value in (g | d).items():
            sums[name] = sums.get(name, 0.0) + float(value.detach()) / training.accumulate
    with state.generator.full_weights():
        state.ema.update_parameters(state.generator.module)
    state.step += 1
    return context.ranks.mean(sums)


def uses_bf16(precision: str, device: torch.device) -> bool:
    """Whether to train in bf16; with `auto`, if the device supports it."""
    if precision != "auto":
        return precision == "bf16"
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported())
    return has_bf16()


def perceptual_loss(recipe: Recipe, device: torch.device) -> Perceptual | None:
    """The recipe's VGG loss; None if it has none. Raises WeightsMissing."""
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
        checkpoint_activations(loss.slices)
    return loss


def load_matching(network: nn.Module, weights: Weights) -> None:
    """Load those weights whose name and shape the network has."""
    current = network.state_dict()
    matching = {n: w for n, w in weights.items() if n in current and current[n].shape == w.shape}
    network.load_state_dict({**current, **matching})
