"""Claim: training at 1024x512 takes half the memory of the 2019 recipe, with `fast` and `save_memory`.

    python benchmarks/training_memory.py

All sides train the local enhancer with one pair per step, the same networks and the same losses, each in a process of
its own; `fast` without `save_memory` is measured too. The figure is the process's peak memory minus its memory before
the networks are created.
"""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.tools.recipe_2019 import Training2019
from benchmarks.tools.record import record
from benchmarks.tools.training_sides import TrainingSetup
from benchmarks.tools.turns import Side
from dancedist.models.build import build_generator
from dancedist.models.pix2pixhd import Discriminator
from dancedist.recipe.schema import Recipe
from dancedist.training.loop import Trainer
from dancedist.training.stages import perceptual_loss

SIZE, STEPS, BAR = (1024, 512), 2, 2.0
OURS, FAST, THEIRS = "ours", "ours, nothing computed twice", "the 2019 recipe"


def recipe(setup: TrainingSetup, *, save_memory: bool = True) -> Recipe:
    """A recipe with both stages; the first has a single step."""
    single_stage = setup.recipe({"max_steps": 1, "save_memory": save_memory})
    stages = {
        "stages": ("global", "local"),
        "generator": single_stage.generator.model_copy(update={"pixels": 512 * 256}),
    }
    return single_stage.model_copy(
        update={**stages, "local": single_stage.local.model_copy(update={"max_steps": STEPS})}
    )


class Memory:
    """Our side: train, and return the peak memory in MB."""

    def __init__(self, setup: TrainingSetup, *, save_memory: bool = True) -> None:
        self.setup, self.recipe = setup, recipe(setup, save_memory=save_memory)
        self.data = setup.target(self.recipe).data

    def __call__(self) -> float:
        """Peak minus memory at the start, MB."""
        before = reset_peak_mb()
        self.train()
        return status_mb("VmHWM") - before

    def train(self) -> None:
        """Train all stages."""
        # A folder per variant: their keys are equal, so the second training would be found already done.
        folder = self.setup.folder / f"ours-{self.recipe.training.save_memory}"
        Trainer(self.data, self.recipe, folder, "target").run()


class Memory2019(Memory):
    """The 2019 recipe."""

    def train(self) -> None:
        """Train on random pictures: their content does not affect memory."""
        d = self.recipe.at_stage("local").discriminator
        discriminator, vgg = (
            Discriminator(12, d.filters, d.layers, d.scales),
            perceptual_loss(self.recipe, torch.device("cpu")),
        )
        assert vgg is not None
        training = Training2019(build_generator(self.recipe), discriminator, vgg)
        for _ in range(STEPS):
            training.step(*(torch.rand(1, 2, 3, SIZE[1], SIZE[0]) * 2 - 1 for _ in range(2)))


def reset_peak_mb() -> float:
    """Reset this process's peak memory; returns its current memory in MB."""
    Path("/proc/self/clear_refs").write_text("5")
    return status_mb("VmRSS")


def status_mb(name: str) -> float:
    """A memory figure of this process from /proc/self/status, MB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name + ":")) / 1e3


def main() -> None:
    with TemporaryDirectory(prefix="dancedist-") as scratch:
        setup = TrainingSetup(Path(scratch), SIZE, seconds_each=0.5)
        setup.target(recipe(setup))
        peaks, seconds = dict[str, float](), dict[str, float]()
        # One after the other: not every machine has the memory for all.
        for name, make in ((THEIRS, Memory2019), (OURS, Memory), (FAST, partial(Memory, save_memory=False))):
            side = Side(partial(make, setup))
            seconds[name], peaks[name] = side.turn()
            print(f"{name}: {peaks[name]:.0f} MB, {seconds[name]:.0f} s", flush=True)
            side.end()
    figures = {"peak_mb": peaks, "seconds": seconds, "size": SIZE}
    record("training_memory", peaks[THEIRS] / peaks[OURS], BAR, figures, ("torch",))


if __name__ == "__main__":
    main()
