"""Claim: training at 1024x512 takes half the memory of the 2019 recipe's: `fast`'s means, with `save_memory`.

    python benchmarks/training_memory.py

One pair a step through the local enhancer on all sides, the same networks and losses; each side in a process of its
own, that of `fast` without `save_memory` too. Counted is the peak of the process's memory over what it holds before
its networks are made.
"""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.tools.lessons import School
from benchmarks.tools.recipe_2019 import Training2019
from benchmarks.tools.record import record
from benchmarks.tools.turns import Side
from dancedist.models.discriminator import Discriminator
from dancedist.models.generator import build_generator
from dancedist.recipe import Recipe
from dancedist.training.loop import Trainer
from dancedist.training.stages import perceptual_loss

SIZE, STEPS, BAR = (1024, 512), 2, 2.0
OURS, FAST, THEIRS = "ours", "ours, nothing computed twice", "the 2019 recipe"


def recipe(school: School, *, save_memory: bool = True) -> Recipe:
    """Both stages, the first as short as can be."""
    part = school.recipe({"max_steps": 1, "save_memory": save_memory})
    stages = {"stages": ("global", "local"), "generator": part.generator.model_copy(update={"pixels": 512 * 256})}
    return part.model_copy(update={**stages, "local": part.local.model_copy(update={"max_steps": STEPS})})


class Memory:
    """Work of our side: MB that it takes at its peak."""

    def __init__(self, school: School, *, save_memory: bool = True) -> None:
        self.school, self.recipe = school, recipe(school, save_memory=save_memory)
        self.data = school.target(self.recipe).data

    def __call__(self) -> float:
        """See the class."""
        before = reset_peak_mb()
        self.train()
        return status_mb("VmHWM") - before

    def train(self) -> None:
        """To the end."""
        # Of its own: both kinds would be the same training, and the second be found done.
        folder = self.school.folder / f"ours-{self.recipe.training.save_memory}"
        Trainer(self.data, self.recipe, folder, "target").run()


class Memory2019(Memory):
    """The same of theirs."""

    def train(self) -> None:
        """What is in the pictures does not matter."""
        d = self.recipe.at_stage("local").discriminator
        judge, vgg = Discriminator(12, d.filters, d.layers, d.scales), perceptual_loss(self.recipe, torch.device("cpu"))
        assert vgg is not None
        training = Training2019(build_generator(self.recipe), judge, vgg)
        for _ in range(STEPS):
            training.step(*(torch.rand(1, 2, 3, SIZE[1], SIZE[0]) * 2 - 1 for _ in range(2)))


def reset_peak_mb() -> float:
    """Forget this process's peak; what it holds now."""
    Path("/proc/self/clear_refs").write_text("5")
    return status_mb("VmRSS")


def status_mb(name: str) -> float:
    """One of this process's figures."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name + ":")) / 1e3


def main() -> None:
    with TemporaryDirectory(prefix="dancedist-") as scratch:
        school = School(Path(scratch), SIZE, seconds_each=0.5)
        school.target(recipe(school))
        peaks, took_s = dict[str, float](), dict[str, float]()
        # One after the other: together they would not fit everywhere.
        for name, make in ((THEIRS, Memory2019), (OURS, Memory), (FAST, partial(Memory, save_memory=False))):
            side = Side(partial(make, school))
            took_s[name], peaks[name] = side.turn()
            print(f"{name}: {peaks[name]:.0f} MB, {took_s[name]:.0f} s", flush=True)
            side.end()
    figures = {"peak_mb": peaks, "seconds": took_s, "size": SIZE}
    record("training_memory", peaks[THEIRS] / peaks[OURS], BAR, figures, ("torch",))


if __name__ == "__main__":
    main()
