"""Both sides of a training benchmark: dancedist with `fast`, and the 2019 recipe with the same networks and pairs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from benchmarks.tools.recipe_2019 import Training2019
from dancedist.data.crops import pair_views
from dancedist.data.target import Target, load_target
from dancedist.data.tensors import to_pictures
from dancedist.evaluation.measure import perceptual_metric
from dancedist.recipe.loading import load_recipe
from dancedist.recipe.schema import Recipe
from dancedist.synthetic import TARGET_TRAINING
from dancedist.synthetic.films import write_scene
from dancedist.training.generator_stage import GeneratorStage
from dancedist.training.loop import Trainer
from dancedist.training.malloc import keep_freed_memory
from dancedist.training.samples import render_samples
from dancedist.training.schedule import step_pairs

# Settings of the training recipe for the other side: eager fp32.
PLAIN = {"precision": "fp32", "channels_last": False, "compiled": False, "augment": False}
_EVALUATED_FRAMES = 24


@dataclass(frozen=True)
class TrainingSetup:
    """A drawn dancer in a folder, filmed at the training size, (width, height) px."""

    folder: Path
    size: tuple[int, int]
    seconds_each: float = 2.0

    def recipe(self, training: Mapping[str, object] | None = None) -> Recipe:
        """`fast`, global stage, one pair per step as on the other side; VGG16, as VGG19 cannot be downloaded here."""
        own = {"batch_pairs": 1, "max_steps": 10_000, "decay_from": 1.0, **(training or {})}
        changes = {"stages": ["global"], "generator": {"pixels": self.size[0] * self.size[1]}, "training": own}
        return load_recipe("fast", overrides={**changes, "losses": {"perceptual_backbone": "vgg16"}})

    def target(self, recipe: Recipe | None = None) -> Target:
        """The target that both sides train on; prepared once."""
        scene = replace(TARGET_TRAINING, size=self.size, seconds_each=self.seconds_each)
        film = self.folder / "target.mp4"
        write_scene(scene, film, self.recipe().video)
        return load_target(film, recipe or self.recipe(), self.folder / "target", poses_of=[scene.poses()])


class FastSide:
    """Our side: train for a number of steps; called with 0, train to each of `evaluated_steps` and return the LPIPS."""

    def __init__(
        self, setup: TrainingSetup, training: Mapping[str, object] | None = None, evaluated_steps: Sequence[int] = ()
    ) -> None:
        self.data, self.recipe = setup.target().data, setup.recipe(training)
        self.trainer = Trainer(self.data, self.recipe, setup.folder / type(self).__name__, "target")
        self.done, self.evaluated_steps = 0, evaluated_steps
        self.prepare()
        self(1)

    def prepare(self) -> None:
        """Do what a training does before its first step."""
        keep_freed_memory()

    def step(self) -> None:
        """One step of this side."""
        self.trainer.train_step()

    def __call__(self, steps: int) -> list[float]:
        """Train; returns LPIPS values, none if `steps` is not 0."""
        self.train(steps)
        values = []
        for step in () if steps else self.evaluated_steps:
            self.train(step - self.done)
            values.append(round(self.lpips(), 4))
        return values

    def train(self, steps: int) -> None:
        """Train for a number of steps."""
        for _ in range(steps):
            self.step()
            self.done += 1

    def lpips(self) -> float:
        """Mean LPIPS over frames of the validation block, with the current weights, not the averaged ones."""
        pairs = self.data.pairs(self.data.split.validation)
        t = pairs[np.linspace(0, len(pairs) - 1, _EVALUATED_FRAMES).round().astype(int)]
        generator, lpips = self.trainer.state.generator.module, perceptual_metric()
        samples = [render_samples(generator, self.data, self.recipe, None, t[i : i + 1]) for i in range(len(t))]
        return float(np.mean([lpips(to_pictures(result), to_pictures(truth)).mean() for _, result, truth in samples]))


class Recipe2019Side(FastSide):
    """The 2019 recipe with the same pairs, figures and pictures, from the same weights."""

    def prepare(self) -> None:
        """Use the networks of the trainer's stage."""
        stage = self.trainer.stage
        assert isinstance(stage, GeneratorStage) and stage.perceptual is not None
        networks = (stage.state.generator.module, stage.state.discriminator.module)
        self.training = Training2019(*networks, stage.perceptual)

    def step(self) -> None:
        """One step with the pair that our side has at this step."""
        context = self.trainer.stage.context
        t = step_pairs(self.done, context.pairs, context.recipe.training)
        self.training.step(*self.data.batch(t, pair_views(self.data.poses, t, context.recipe)))
