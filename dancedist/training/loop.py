"""Training of one target. A training killed at any step resumes with the same losses and the same log."""

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

from dancedist.data.background import background_detail
from dancedist.data.pairs import TargetData
from dancedist.errors import TrainingDiverged
from dancedist.progress import Advance, silent
from dancedist.recipe.fingerprint import fingerprint
from dancedist.recipe.schema import Recipe
from dancedist.recipe.schema import Stage as StageName
from dancedist.training.checkpoints import Checkpoints, FolderCheckpoints
from dancedist.training.engine import MakeEngine, Ranks, TorchEngine
from dancedist.training.face_stage import FaceStage
from dancedist.training.generator_stage import GeneratorStage
from dancedist.training.loss_plot import plot_losses
from dancedist.training.malloc import keep_freed_memory, return_freed_memory
from dancedist.training.schedule import total_steps
from dancedist.training.stages import Stage, StageContext, Weights, run_step
from dancedist.training.state import TrainingState, read_common, read_state, write_state

TRAINING_VERSION = 4
LOG = "log.jsonl"
# oneDNN caches compiled convolutions by shape. Windows have more shapes than the default 1,024 entries, and compiling
# again took a fifth of every step. The variable is read at the first convolution of the process.
os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "16384")


class Trainer:
    """Runs the recipe's stages one after another; `folder` holds log, sample pictures and loss plot.

    `key` identifies the target (`target_fingerprint`). `background` is uint8 RGB (H, W, 3) in the video's size; None
    if the recipe does not use one. `engine` makes the engine of each network; with several `ranks`, each computes its
    part of every batch. `initial` are weights for a warm start: another dancer's `generator` and `face` generator.
    """

    def __init__(
        self,
        data: TargetData,
        recipe: Recipe,
        folder: Path,
        key: str,
        background: NDArray[np.uint8] | None = None,
        *,
        engine: MakeEngine = TorchEngine,
        ranks: Ranks | None = None,
        checkpoints: Checkpoints | None = None,
        initial: Mapping[str, Weights] | None = None,
    ) -> None:
        self.data, self.recipe, self.folder, self.key, self.background = data, recipe, folder, key, background
        self.engine, self.ranks, self.initial = engine, ranks or Ranks(), initial or {}
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.checkpoints = checkpoints or FolderCheckpoints(folder)
        # A target whose face is never visible has no face stage.
        self.stage_steps = {name: steps for name in recipe.stages if (steps := self._count_steps(name))}
        self.steps = sum(self.stage_steps.values())
        self.stage_name: StageName = recipe.stages[0]
        self.stage: Stage
        # Final weights of earlier stages, by network.
        self.weights: dict[str, Weights] = {}
        folder.mkdir(parents=True, exist_ok=True)
        if not self.checkpoints.load(self._resume):
            self._start_stage(self.stage_name)
        _truncate_log(folder / LOG, self.step)

    @property
    def state(self) -> TrainingState:
        """State of the current stage."""
        return self.stage.state

    @property
    def step(self) -> int:
        """Steps done in all stages."""
        return self._steps_before(self.stage_name) + self.state.step

    def run(self, advance: Advance = silent) -> None:
        """Train to the end. `advance` counts steps, at once those that were done before. Raises TrainingDiverged."""
        return_freed_memory() if self.recipe.training.save_memory else keep_freed_memory()
        advance(self.step)
        started, seconds_before = time.monotonic(), self.state.seconds
        while (name := self._next_stage()) is not None:
            steps_before, stage_steps = self._steps_before(name), self.stage_steps[name]
            losses = self.train_step()
            self.state.seconds = seconds_before + time.monotonic() - started
            self._log_and_save(losses, steps_before + self.state.step, last=self.state.step == stage_steps)
            advance(1)

    def train_step(self) -> dict[str, float]:
        """Run one step of the current stage; returns the losses. Raises TrainingDiverged."""
        losses = run_step(self.stage)
        if not all(map(math.isfinite, losses.values())):
            values = ", ".join(f"{name} {value:g}" for name, value in losses.items())
            raise TrainingDiverged(
                "losses are not finite", expected="finite numbers", got=f"{values} at step {self.step - 1}"
            )
        return losses

    def final_weights(self) -> dict[str, Weights]:
        """Averaged weights of the `generator`, and of the `face` generator if there was a face stage."""
        assert self.step == self.steps
        return {**self.weights, _network_of(self.stage_name): self.state.ema.module.state_dict()}

    def _next_stage(self) -> StageName | None:
        """Stage of the next step, started if it is a new one; None after the last step."""
        while self.state.step == self.stage_steps[self.stage_name]:
            names = [*self.stage_steps]
            if self.stage_name == names[-1]:
                return None
            seconds = self.state.seconds
            self.weights[_network_of(self.stage_name)] = self.state.ema.module.state_dict()
            # Free this stage first: two stages at a time would be the peak of memory. gc, because engines are cyclic.
            del self.stage
            gc.collect()
            self._start_stage(names[names.index(self.stage_name) + 1])
            self.state.seconds = seconds
        return self.stage_name

    def _start_stage(self, name: StageName) -> None:
        self.stage_name, previous = name, self.weights.get("generator")
        stage_class = FaceStage if name == "face" else GeneratorStage
        self.stage = stage_class(self._context(name), previous, self.initial.get(_network_of(name)))
        if name != "face":
            # Trained further by this stage.
            self.weights.pop("generator", None)

    def _resume(self, folder: Path) -> bool:
        """Resume from a checkpoint; False if it is not one of this training."""
        common = read_common(folder)
        names = [n for n in self.stage_steps if common is not None and common["fingerprint"] == self._fingerprint(n)]
        if common is None or not names:
            return False
        self._start_stage(names[0])
        read_state(self.state, folder, common)
        if common["main"] is not None:
            self.weights["generator"] = common["main"]
        if (folder / LOG).exists():
            shutil.copyfile(folder / LOG, self.folder / LOG)
        return True

    def _log_and_save(self, losses: dict[str, float], done: int, *, last: bool) -> None:
        """Write log, sample pictures and checkpoint at the recipe's intervals."""
        every = self.recipe.training
        if self.ranks.rank == 0 and ((self.state.step - 1) % every.log_every_steps == 0 or last):
            with (self.folder / LOG).open("a") as file:
                file.write(json.dumps({"step": done - 1, **losses}) + "\n")
        if self.ranks.rank == 0 and (done % every.sample_every_steps == 0 or last):
            self.stage.sample(self.folder / f"sample_{done:06d}.png")
            plot_losses(self.folder / LOG, self.folder / "losses.png")
        if done % every.checkpoint_every_steps == 0 or last:
            self.checkpoints.save(done, self._write_checkpoint, keep=last)

    def _write_checkpoint(self, folder: Path) -> None:
        is_rank_zero = self.ranks.rank == 0
        write_state(self.state, folder, self._fingerprint(self.stage_name), is_rank_zero=is_rank_zero)
        if is_rank_zero and (self.folder / LOG).exists():
            shutil.copyfile(self.folder / LOG, folder / LOG)

    def _context(self, name: StageName) -> StageContext:
        data, recipe = self._data(name), self.recipe.at_stage(name)
        background = None if self.background is None else data.background_picture(self.background)
        detail = None if self.background is None else background_detail(self.background, self.data.letterbox)
        pairs, steps = self._pairs(name), self.stage_steps[name]
        assert recipe.training.batch_pairs % (recipe.training.accumulate * self.ranks.world) == 0, recipe.training
        return StageContext(recipe, data, background, detail, pairs, steps, self.device, self.engine, self.ranks)

    def _data(self, name: StageName) -> TargetData:
        return self.data.halved() if name == "global" and "local" in self.recipe.stages else self.data

    def _pairs(self, name: StageName) -> NDArray[np.int64]:
        block = self.data.split.train
        return self.data.face_pairs(block) if name == "face" else self.data.pairs(block)

    def _count_steps(self, name: StageName) -> int:
        return total_steps(len(self._pairs(name)), self.recipe.at_stage(name).training)

    def _steps_before(self, name: StageName) -> int:
        names = [*self.stage_steps]
        return sum(self.stage_steps[n] for n in names[: names.index(name)])

    def _fingerprint(self, name: StageName) -> str:
        return fingerprint(self.key, *trained_parts(self.recipe.at_stage(name)), TRAINING_VERSION)


def trained_parts(recipe: Recipe) -> list[Any]:
    """Parts of a recipe that determine the weights."""
    # Which frames a small cache holds is in the target's fingerprint; its size alone determines nothing.
    data = recipe.data.model_copy(update={"cache_gb": 0.0})
    training = recipe.training.model_copy(update={"save_memory": False})
    parts: list[Any] = [recipe.figure, data, recipe.generator, recipe.discriminator, recipe.losses, training]
    return [*recipe.stages, *parts, *(getattr(recipe, n) for n in ("local", "face") if n in recipe.stages)]


def _network_of(name: StageName) -> str:
    return "face" if name == "face" else "generator"


def _truncate_log(path: Path, steps_done: int) -> None:
    """Drop rows after the checkpoint, whose steps are run again."""
    if path.exists():
        lines = [line for line in path.read_text().splitlines(keepends=True) if _logged_step(line) < steps_done]
        path.write_text("".join(lines))


def _logged_step(line: str) -> float:
    # A line that a kill has truncated does not count.
    return float(json.loads(line)["step"]) if line.endswith("}\n") else float("inf")
