"""Training of one target, to be killed and taken up at any step with the same losses and the same log."""

from __future__ import annotations

import gc
import json
import math
import os
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from dancedist.data.background import stage_detail
from dancedist.data.pairs import TargetData
from dancedist.errors import TrainingDiverged
from dancedist.progress import Advance, silent
from dancedist.recipe import Recipe, fingerprint
from dancedist.recipe import Stage as StageName
from dancedist.training.checkpoints import Checkpoints, FolderCheckpoints
from dancedist.training.engine import MakeEngine, Ranks, TorchEngine
from dancedist.training.face_stage import FaceStage
from dancedist.training.generator_stage import PictureStage
from dancedist.training.malloc import give_back, keep_heap
from dancedist.training.schedule import total_steps
from dancedist.training.stages import Lesson, Stage, Weights, run_step
from dancedist.training.state import TrainingState, read_common, read_state, write_state
from dancedist.training.visualize import plot_losses

CODE_VERSION = 4
LOG = "log.jsonl"
# oneDNN keeps compiled convolutions by shape; windows have more shapes than its 1,024 places, and compiling them
# again and again took a fifth of every step. Read at the first convolution of the process.
os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "16384")


class Trainer:
    """Runs the recipe's stages one after another; `folder` holds log, sample pictures and loss plot.

    `key` stands for the target; `backdrop` uint8 (H, W, 3), the empty stage in the film's size, where the recipe has
    one. `engine` holds each network; of several `ranks`, each sees its part of every batch. `first`: another dancer's
    weights to begin with, of its generator and of its face generator.
    """

    def __init__(
        self,
        data: TargetData,
        recipe: Recipe,
        folder: Path,
        key: str,
        backdrop: NDArray[np.uint8] | None = None,
        *,
        engine: MakeEngine = TorchEngine,
        ranks: Ranks | None = None,
        checkpoints: Checkpoints | None = None,
        first: Mapping[str, Weights] | None = None,
    ) -> None:
        self.data, self.recipe, self.folder, self.key, self.backdrop = data, recipe, folder, key, backdrop
        self.engine, self.ranks, self.first = engine, ranks or Ranks(), first or {}
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.checkpoints = checkpoints or FolderCheckpoints(folder)
        # A target whose face is never seen has no stage of it.
        self.lengths = {name: length for name in recipe.stages if (length := self._length(name))}
        self.steps = sum(self.lengths.values())
        self.name: StageName = recipe.stages[0]
        self.stage: Stage
        # What earlier stages have left: the generator, at last its face generator.
        self.weights: dict[str, Weights] = {}
        folder.mkdir(parents=True, exist_ok=True)
        if not self.checkpoints.load(self._take_up):
            self._begin(self.name)
        _cut_log(folder / LOG, self.step)

    @property
    def state(self) -> TrainingState:
        """Of the stage that it is at."""
        return self.stage.state

    @property
    def step(self) -> int:
        """Steps done, of all stages."""
        return self._before(self.name) + self.state.step

    def run(self, advance: Advance = silent) -> None:
        """Train to the end. Progress counts steps; those done before count at once. Raises TrainingDiverged."""
        give_back() if self.recipe.training.save_memory else keep_heap()
        advance(self.step)
        started, before = time.monotonic(), self.state.seconds
        while (name := self._go_on()) is not None:
            done_before, length = self._before(name), self.lengths[name]
            losses = self.train_step()
            self.state.seconds = before + time.monotonic() - started
            self._note(losses, done_before + self.state.step, last=self.state.step == length)
            advance(1)

    def train_step(self) -> dict[str, float]:
        """One step of the stage that it is at; returns the losses."""
        losses = run_step(self.stage)
        if not all(map(math.isfinite, losses.values())):
            told = ", ".join(f"{name} {value:g}" for name, value in losses.items())
            raise TrainingDiverged(
                "the losses are not finite", expected="numbers", got=f"{told} at step {self.step - 1}"
            )
        return losses

    def finished(self) -> dict[str, Weights]:
        """The weights of the `generator`, and of the `face` where there was such a stage."""
        assert self.step == self.steps
        return {**self.weights, _network(self.name): self.state.ema.module.state_dict()}

    def _go_on(self) -> StageName | None:
        """The stage that the next step is of; None after the last."""
        while self.state.step == self.lengths[self.name]:
            names = [*self.lengths]
            if self.name == names[-1]:
                return None
            seconds = self.state.seconds
            self.weights[_network(self.name)] = self.state.ema.module.state_dict()
            # Two stages at a time would be the most memory that a training takes; an engine refers to itself.
            del self.stage
            gc.collect()
            self._begin(names[names.index(self.name) + 1])
            self.state.seconds = seconds
        return self.name

    def _begin(self, name: StageName) -> None:
        self.name, before = name, self.weights.get("generator")
        kind = FaceStage if name == "face" else PictureStage
        self.stage = kind(self._lesson(name), before, self.first.get(_network(name)))
        if name != "face":
            # It is this stage's to learn now.
            self.weights.pop("generator", None)

    def _take_up(self, folder: Path) -> bool:
        common = read_common(folder)
        names = [n for n in self.lengths if common is not None and common["fingerprint"] == self._fingerprint(n)]
        if common is None or not names:
            return False
        self._begin(names[0])
        read_state(self.state, folder, common)
        if common["main"] is not None:
            self.weights["generator"] = common["main"]
        if (folder / LOG).exists():
            shutil.copyfile(folder / LOG, self.folder / LOG)
        return True

    def _note(self, losses: dict[str, float], done: int, *, last: bool) -> None:
        """Log, checkpoint and pictures, as often as the recipe has them."""
        every = self.recipe.training
        if self.ranks.rank == 0 and ((self.state.step - 1) % every.log_every_steps == 0 or last):
            with (self.folder / LOG).open("a") as file:
                file.write(json.dumps({"step": done - 1, **losses}) + "\n")
        if self.ranks.rank == 0 and (done % every.sample_every_steps == 0 or last):
            self.stage.sample(self.folder / f"sample_{done:06d}.png")
            plot_losses(self.folder / LOG, self.folder / "losses.png")
        if done % every.checkpoint_every_steps == 0 or last:
            self.checkpoints.save(done, self._write, keep=last)

    def _write(self, folder: Path) -> None:
        first = self.ranks.rank == 0
        write_state(self.state, folder, self._fingerprint(self.name), first=first)
        if first and (self.folder / LOG).exists():
            shutil.copyfile(self.folder / LOG, folder / LOG)

    def _lesson(self, name: StageName) -> Lesson:
        data, recipe = self._data(name), self.recipe.at_stage(name)
        backdrop = None if self.backdrop is None else data.stage_picture(self.backdrop)
        detail = None if self.backdrop is None else stage_detail(self.backdrop, self.data.fit)
        pairs, steps = self._pairs(name), self.lengths[name]
        assert recipe.training.batch_pairs % (recipe.training.accumulate * self.ranks.world) == 0, recipe.training
        return Lesson(recipe, data, backdrop, detail, pairs, steps, self.device, self.engine, self.ranks)

    def _data(self, name: StageName) -> TargetData:
        return self.data.halved() if name == "global" and "local" in self.recipe.stages else self.data

    def _pairs(self, name: StageName) -> NDArray[np.int64]:
        block = self.data.split.train
        return self.data.face_pairs(block) if name == "face" else self.data.pairs(block)

    def _length(self, name: StageName) -> int:
        return total_steps(len(self._pairs(name)), self.recipe.at_stage(name).training)

    def _before(self, name: StageName) -> int:
        names = [*self.lengths]
        return sum(self.lengths[n] for n in names[: names.index(name)])

    def _fingerprint(self, name: StageName) -> str:
        return fingerprint(self.key, *trained_parts(self.recipe.at_stage(name)), CODE_VERSION)


def trained_parts(recipe: Recipe) -> list[Any]:
    """What of a recipe decides the weights."""
    # Which frames a small cache keeps is the target's to tell; how much of it there is decides nothing by itself.
    data = recipe.data.model_copy(update={"cache_gb": 0.0})
    training = recipe.training.model_copy(update={"save_memory": False})
    parts: list[Any] = [recipe.figure, data, recipe.generator, recipe.discriminator, recipe.losses, training]
    return [*recipe.stages, *parts, *(getattr(recipe, n) for n in ("local", "face") if n in recipe.stages)]


def _network(name: StageName) -> str:
    return "face" if name == "face" else "generator"


def _cut_log(path: Path, steps_done: int) -> None:
    """Drop what was logged after the checkpoint: those steps are run again."""
    if path.exists():
        kept = [line for line in path.read_text().splitlines(keepends=True) if _logged_step(line) < steps_done]
        path.write_text("".join(kept))


def _logged_step(line: str) -> float:
    # A line that a kill cut short belongs to no step that counts.
    return float(json.loads(line)["step"]) if line.endswith("}\n") else float("inf")
