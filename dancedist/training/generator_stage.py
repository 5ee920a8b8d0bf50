"""The stages that train whole pictures: the global generator, then the local enhancer around it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dancedist.data.crops import View, head_and_part, pair_views
from dancedist.data.tensors import to_tensor
from dancedist.models.activation_checkpointing import checkpoint_activations, generator_layers
from dancedist.models.build import build_generator
from dancedist.models.generator import remap_state_dict
from dancedist.models.pix2pixhd import Discriminator
from dancedist.models.step import (
    LossWeights,
    adversarial_losses,
    discriminator_input,
    discriminator_losses,
    picture_losses,
    rollout,
)
from dancedist.training.samples import write_samples
from dancedist.training.stages import Losses, StageContext, Weights, load_matching, perceptual_loss
from dancedist.training.state import new_state


class GeneratorStage:
    """See stages.Stage. `previous` are the weights of the stage before, `initial` those of another dancer."""

    def __init__(self, context: StageContext, previous: Weights | None = None, initial: Weights | None = None) -> None:
        self.context, recipe = context, context.recipe
        t, d = recipe.training, recipe.discriminator
        with torch.random.fork_rng():
            torch.manual_seed(t.seed)
            generator = build_generator(recipe).to(context.device)
            channels = 12 if t.temporal else 6
            discriminator = Discriminator(channels, d.filters, d.layers, d.scales).to(context.device)
        for weights in (initial, previous):
            load_matching(generator, remap_state_dict(weights or {}, local="local" in recipe.stages))
        self.state = new_state(generator, discriminator, t, context.engine)
        if t.save_memory:
            checkpoint_activations([*generator_layers(generator.net), *discriminator.scales])
        self.perceptual = perceptual_loss(recipe, context.device)

    def micro_batch_losses(self, t: NDArray[np.int64], index: int) -> tuple[Losses, Losses]:
        """See stages.Stage."""
        context, state, recipe = self.context, self.state, self.context.recipe
        # Drawn for the pairs of all ranks, so that the result does not depend on the number of ranks.
        all_views = pair_views(context.data.poses, t, recipe, context.rng(2, state.step, index))
        corners = context.ranks.shard(self._corners(t, all_views, index))
        views = context.ranks.shard(all_views)
        figures, truth = (x.to(context.device) for x in context.data.batch(context.ranks.shard(t), views))
        background = None if context.background is None else _crop(context.background, views).to(context.device)
        temporal, losses = recipe.training.temporal, recipe.losses
        motion = losses.motion if temporal else 0.0
        weights = LossWeights(losses.feature_matching, losses.perceptual, losses.l1, motion)
        pictures = rollout(partial(state.generator, background_B3HW=background), figures, temporal=temporal)
        crops = self._crops(corners, pictures, truth)
        g = picture_losses(pictures, truth, crops, self.perceptual, weights)
        fake, real = (
            context.augmented(discriminator_input(figures, y, temporal=temporal), state.step, index)
            for y in (pictures, truth)
        )
        # The module, not its engine: the generator's losses must add no gradient to the discriminator.
        state.discriminator.module.requires_grad_(False)
        g |= adversarial_losses(state.discriminator.module, fake, real, weights)
        state.discriminator.module.requires_grad_(True)
        return g, discriminator_losses(state.discriminator, fake.detach(), real)

    def sample(self, path: Path) -> None:
        """See stages.Stage. Rows: skeleton, result, truth."""
        write_samples(self.state.ema, self.context.data, self.context.recipe, self.context.background, path)

    def _corners(self, t: NDArray[np.int64], views: Sequence[View], index: int) -> list[list[tuple[int, int]]]:
        """Perceptual crops of each pair: upper left corners (x, y) px of squares inside its view."""
        side = self._crop_px(views[0].window.height, views[0].window.width)
        if side == 0:
            return [[] for _ in t]
        context = self.context
        rng, min_score = context.rng(1, self.state.step, index), context.recipe.figure.min_score
        poses = context.data.poses
        return [head_and_part(poses, int(i), view, side, min_score, rng) for i, view in zip(t, views, strict=True)]

    def _crop_px(self, height: int, width: int) -> int:
        """Side in px of the perceptual crops in views of this size; 0 if whole pictures are compared."""
        return min(self.context.recipe.losses.perceptual_crop_px, height, width)

    def _crops(
        self, corners: Sequence[list[tuple[int, int]]], pictures: Tensor, truth: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Inputs of the perceptual loss, (N, 3, h, w) of pictures and truth: whole, or crops on the dancer."""
        side = self._crop_px(*pictures.shape[-2:])
        if side == 0:
            return pictures.flatten(0, 1), truth.flatten(0, 1)
        squares = [(b, x, y) for b, pair_corners in enumerate(corners) for x, y in pair_corners]
        crops = [torch.cat([p[b, :, :, y : y + side, x : x + side] for b, x, y in squares]) for p in (pictures, truth)]
        return crops[0], crops[1]


def _crop(background: NDArray[np.uint8], views: Sequence[View]) -> Tensor:
    return to_tensor(np.stack([view.crop(background) for view in views]))
