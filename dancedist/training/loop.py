"""Training of one target, to be killed and taken up at any step with the same losses and the same log."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dancedist.gan.losses import Perceptual
from dancedist.gan.step import (
    LossWeights,
    adversarial_losses,
    discriminator_losses,
    judged_input,
    picture_losses,
    rollout,
)
from dancedist.pairs import TargetData, to_tensor
from dancedist.progress import Advance, silent
from dancedist.recipe import Recipe
from dancedist.training.engine import MakeEngine, Ranks, TorchEngine
from dancedist.training.pictures import plot_losses, write_samples
from dancedist.training.schedule import learning_rate, step_pairs, total_steps
from dancedist.training.state import load_state, new_state, save_state
from dancedist.views import View, head_and_part, pair_views
from dancedist.weights import load_backbone

CODE_VERSION = 3
# oneDNN keeps compiled convolutions by shape; windows have more shapes than its 1,024 places, and compiling them
# again and again took a fifth of every step. Read at the first convolution of the process.
os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "16384")


@dataclass(frozen=True)
class Losses:
    """One step's losses by name, unscaled sums included."""

    step: int
    values: dict[str, float]


class Trainer:
    """Runs steps on a state; `folder` holds checkpoint, log, sample pictures and loss plot.

    `stage` uint8 (H, W, 3), the empty stage in the film's size, where the recipe has a backdrop. `engine` holds each
    network; of several `ranks`, each sees its part of every batch.
    """

    def __init__(
        self,
        data: TargetData,
        recipe: Recipe,
        folder: Path,
        fingerprint: str,
        stage: NDArray[np.uint8] | None = None,
        *,
        engine: MakeEngine = TorchEngine,
        ranks: Ranks | None = None,
    ) -> None:
        self.data, self.recipe, self.folder, self.fingerprint = data, recipe, folder, fingerprint
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.bf16 = uses_bf16(recipe.training.precision, self.device)
        self.pairs = data.pairs(data.split.train)
        self.steps = total_steps(len(self.pairs), recipe.training)
        self.stage = None if stage is None else data.fit.to_picture(stage)
        self.perceptual = _perceptual(recipe, self.device)
        self.ranks = ranks or Ranks()
        assert recipe.training.batch_pairs % self.ranks.world == 0, (recipe.training.batch_pairs, self.ranks.world)
        self.state = new_state(recipe, self.device, engine)
        folder.mkdir(parents=True, exist_ok=True)
        load_state(self.state, folder, fingerprint)
        _cut_log(folder / "log.jsonl", self.state.step)

    def run(self, advance: Advance = silent) -> None:
        """Train to the end. Progress counts steps; those done before count at once."""
        advance(self.state.step)
        every, started, before = self.recipe.training, time.monotonic(), self.state.seconds
        for losses in self._rest():
            done = losses.step + 1
            last = done == self.steps
            if losses.step % every.log_every_steps == 0 or last:
                self._log(losses)
            self.state.seconds = before + time.monotonic() - started
            if done % every.checkpoint_every_steps == 0 or last:
                save_state(self.state, self.folder, self.fingerprint)
            if done % every.sample_every_steps == 0 or last:
                write_samples(
                    self.state.ema, self.data, self.recipe, self.stage, self.folder / f"sample_{done:06d}.png"
                )
                plot_losses(self.folder / "log.jsonl", self.folder / "losses.png")
            advance(1)

    def _rest(self) -> Iterator[Losses]:
        while self.state.step < self.steps:
            yield Losses(self.state.step, self.step())

    def step(self) -> dict[str, float]:
        """One step of generator and discriminator; returns the losses."""
        state, recipe = self.state, self.recipe
        every = step_pairs(state.step, self.pairs, recipe.training)
        every_view = pair_views(self.data.poses, every, recipe, self._rng(2))
        t, views = self.ranks.mine(every), self.ranks.mine(every_view)
        figures, truth = (x.to(self.device) for x in self.data.batch(t, views))
        backdrop = None if self.stage is None else self._look(self.stage, views)
        paint = partial(state.generator, backdrop_B3HW=backdrop)
        temporal, weights = recipe.training.temporal, _weights(recipe)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
            pictures = rollout(paint, figures, temporal=temporal)
            crops = self._crops(self.ranks.mine(self._corners(every, every_view)), pictures, truth)
            g = picture_losses(pictures, truth, crops, self.perceptual, weights)
            fake, real = (judged_input(figures, y, temporal=temporal) for y in (pictures, truth))
            # The network, not its engine: the generator's losses must leave no gradient in it.
            state.discriminator.module.requires_grad_(False)
            g |= adversarial_losses(state.discriminator.module, fake, real, weights)
            state.discriminator.module.requires_grad_(True)
            d = discriminator_losses(state.discriminator, fake.detach(), real)
        rate = learning_rate(state.step, self.steps, recipe.training)
        for engine, losses in ((state.generator, g), (state.discriminator, d)):
            engine.backward(torch.stack(list(losses.values())).sum())
            engine.step(rate)
        with state.generator.whole():
            state.ema.update_parameters(state.generator.module)
        state.step += 1
        return self.ranks.mean({name: float(value.detach()) for name, value in (g | d).items()})

    def _rng(self, purpose: int) -> np.random.Generator:
        """Chance as a function of the step, so that a training taken up again sees what it would have seen."""
        return np.random.default_rng([self.recipe.training.seed, purpose, self.state.step])

    def _look(self, stage: NDArray[np.uint8], views: Sequence[View]) -> Tensor:
        return to_tensor(np.stack([view.look(stage) for view in views])).to(self.device)

    def _corners(self, t: NDArray[np.int64], views: Sequence[View]) -> list[list[tuple[int, int]]]:
        """Of each pair, where the perceptual loss looks: left upper corners (x, y) of squares inside its view."""
        side = self._crop_px(views[0].window.height, views[0].window.width)
        if side == 0:
            return [[] for _ in t]
        rng, min_score = self._rng(1), self.recipe.figure.min_score
        return [
            head_and_part(self.data.poses, int(i), view, side, min_score, rng) for i, view in zip(t, views, strict=True)
        ]

    def _crop_px(self, height: int, width: int) -> int:
        """Side of the squares in views of this size; 0 where the whole picture is compared."""
        return min(self.recipe.losses.perceptual_crop_px, height, width)

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

    def _log(self, losses: Losses) -> None:
        with (self.folder / "log.jsonl").open("a") as file:
            file.write(json.dumps({"step": losses.step, **losses.values}) + "\n")


def uses_bf16(precision: str, device: torch.device) -> bool:
    """Whether to train in bf16; `auto` asks the processor."""
    if precision != "auto":
        return precision == "bf16"
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported())
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def _weights(recipe: Recipe) -> LossWeights:
    w = recipe.losses
    return LossWeights(w.feature_matching, w.perceptual, w.l1)


def _perceptual(recipe: Recipe, device: torch.device) -> Perceptual | None:
    backbone = recipe.losses.perceptual_backbone
    if backbone == "none" or recipe.losses.perceptual == 0:
        return None
    return Perceptual(backbone, load_backbone(backbone), recipe.losses.perceptual_stages).to(device)


def _cut_log(path: Path, steps_done: int) -> None:
    """Drop what was logged after the checkpoint: those steps are run again."""
    if path.exists():
        kept = [line for line in path.read_text().splitlines(keepends=True) if _logged_step(line) < steps_done]
        path.write_text("".join(kept))


def _logged_step(line: str) -> float:
    # A line that a kill cut short belongs to no step that counts.
    return float(json.loads(line)["step"]) if line.endswith("}\n") else float("inf")
