"""The stages that learn whole pictures: the global generator, then the local enhancer round it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dancedist.data.crops import View, head_and_part, pair_views
from dancedist.data.pairs import to_tensor
from dancedist.models.activation_checkpointing import pieces, recompute
from dancedist.models.discriminator import Discriminator
from dancedist.models.generator import build_generator, renamed
from dancedist.models.step import (
    LossWeights,
    adversarial_losses,
    discriminator_losses,
    judged_input,
    picture_losses,
    rollout,
)
from dancedist.training.stages import Lesson, Losses, Weights, overlay, perceptual_loss
from dancedist.training.state import new_state
from dancedist.training.visualize import write_samples


class PictureStage:
    """See stages.Stage. `before`: the weights of the stage before; `first`: those of another dancer."""

    def __init__(self, lesson: Lesson, before: Weights | None = None, first: Weights | None = None) -> None:
        self.lesson, recipe = lesson, lesson.recipe
        t, d = recipe.training, recipe.discriminator
        with torch.random.fork_rng():
            torch.manual_seed(t.seed)
            generator = build_generator(recipe).to(lesson.device)
            channels = 12 if t.temporal else 6
            discriminator = Discriminator(channels, d.filters, d.layers, d.scales).to(lesson.device)
        for weights in (first, before):
            overlay(generator, renamed(weights or {}, local="local" in recipe.stages))
        self.state = new_state(generator, discriminator, t, lesson.engine)
        if t.save_memory:
            recompute([*pieces(generator.net), *discriminator.scales])
        self.perceptual = perceptual_loss(recipe, lesson.device)

    def part_losses(self, t: NDArray[np.int64], part: int) -> tuple[Losses, Losses]:
        """See stages.Stage."""
        lesson, state, recipe = self.lesson, self.state, self.lesson.recipe
        views = pair_views(lesson.data.poses, t, recipe, lesson.rng(2, state.step, part))
        corners = self._corners(t, views, part)
        mine, own_views = lesson.ranks.mine(t), lesson.ranks.mine(views)
        figures, truth = (x.to(lesson.device) for x in lesson.data.batch(mine, own_views))
        backdrop = None if lesson.backdrop is None else _look(lesson.backdrop, own_views).to(lesson.device)
        temporal, losses = recipe.training.temporal, recipe.losses
        motion = losses.motion if temporal else 0.0
        weights = LossWeights(losses.feature_matching, losses.perceptual, losses.l1, motion)
        pictures = rollout(partial(state.generator, backdrop_B3HW=backdrop), figures, temporal=temporal)
        crops = self._crops(lesson.ranks.mine(corners), pictures, truth)
        g = picture_losses(pictures, truth, crops, self.perceptual, weights)
        fake, real = (
            lesson.judged(judged_input(figures, y, temporal=temporal), state.step, part) for y in (pictures, truth)
        )
        # The network, not its engine: the generator's losses must leave no gradient in it.
        state.discriminator.module.requires_grad_(False)
        g |= adversarial_losses(state.discriminator.module, fake, real, weights)
        state.discriminator.module.requires_grad_(True)
        return g, discriminator_losses(state.discriminator, fake.detach(), real)

    def sample(self, path: Path) -> None:
        """See stages.Stage: rows figure, result, truth."""
        write_samples(self.state.ema, self.lesson.data, self.lesson.recipe, self.lesson.backdrop, path)

    def _corners(self, t: NDArray[np.int64], views: Sequence[View], part: int) -> list[list[tuple[int, int]]]:
        """Of each pair, where the perceptual loss looks: left upper corners (x, y) of squares inside its view."""
        side = self._crop_px(views[0].window.height, views[0].window.width)
        if side == 0:
            return [[] for _ in t]
        lesson = self.lesson
        rng, min_score = lesson.rng(1, self.state.step, part), lesson.recipe.figure.min_score
        poses = lesson.data.poses
        return [head_and_part(poses, int(i), view, side, min_score, rng) for i, view in zip(t, views, strict=True)]

    def _crop_px(self, height: int, width: int) -> int:
        """Side of the squares in views of this size; 0 where the whole picture is compared."""
        return min(self.lesson.recipe.losses.perceptual_crop_px, height, width)

    def _crops(
        self, corners: Sequence[list[tuple[int, int]]], pictures: Tensor, truth: Tensor
    ) -> tuple[Tensor, Tensor]:
        """What the perceptual loss compares, (N, 3, h, w) twice: the pictures, or squares of them on the dancer."""
        side = self._crop_px(*pictures.shape[-2:])
        if side == 0:
            return pictures.flatten(0, 1), truth.flatten(0, 1)
        places = [(b, x, y) for b, several in enumerate(corners) for x, y in several]
        cut = [torch.cat([p[b, :, :, y : y + side, x : x + side] for b, x, y in places]) for p in (pictures, truth)]
        return cut[0], cut[1]


def _look(stage: NDArray[np.uint8], views: Sequence[View]) -> Tensor:
    return to_tensor(np.stack([view.look(stage) for view in views]))
