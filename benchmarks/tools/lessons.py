"""Both sides of a training: `fast` as dancedist trains it, and the 2019 recipe with the same networks and pairs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from benchmarks.tools.recipe_2019 import Training2019
from dancedist.data.crops import pair_views
from dancedist.data.pairs import to_pictures
from dancedist.evaluation.evaluation import perceptual_metric
from dancedist.recipe import Recipe, load_recipe
from dancedist.synthetic import TARGET_TRAINING
from dancedist.synthetic.films import write_scene
from dancedist.training.generator_stage import PictureStage
from dancedist.training.loop import Trainer
from dancedist.training.malloc import keep_heap
from dancedist.training.schedule import step_pairs
from dancedist.training.target import Target, load_target
from dancedist.training.visualize import sampled

# How the other side computes.
PLAIN = {"precision": "fp32", "channels_last": False, "compiled": False, "augment": False}
_LOOKED_AT = 24


@dataclass(frozen=True)
class School:
    """A drawn dancer in a folder, filmed in the size (width, height) that is learnt."""

    folder: Path
    size: tuple[int, int]
    seconds_each: float = 2.0

    def recipe(self, training: Mapping[str, object] | None = None) -> Recipe:
        """`fast`, the global stage, a pair a step as on the other side. VGG16: VGG19 cannot be had here."""
        own = {"batch_pairs": 1, "max_steps": 10_000, "decay_from": 1.0, **(training or {})}
        changes = {"stages": ["global"], "generator": {"pixels": self.size[0] * self.size[1]}, "training": own}
        return load_recipe("fast", overrides={**changes, "losses": {"perceptual_backbone": "vgg16"}})

    def target(self, recipe: Recipe | None = None) -> Target:
        """What both sides learn, prepared once."""
        scene = replace(TARGET_TRAINING, size=self.size, seconds_each=self.seconds_each)
        film = self.folder / "target.mp4"
        write_scene(scene, film, self.recipe().video)
        return load_target(film, recipe or self.recipe(), self.folder / "target", poses_of=[scene.poses()])


class Lessons:
    """Work of our side: so many steps; asked for none, goes on and tells its LPIPS after each of `looks` steps."""

    def __init__(self, school: School, training: Mapping[str, object] | None = None, looks: Sequence[int] = ()) -> None:
        self.data, self.recipe = school.target().data, school.recipe(training)
        self.trainer = Trainer(self.data, self.recipe, school.folder / type(self).__name__, "target")
        self.done, self.looks = 0, looks
        self.begin()
        self(1)

    def begin(self) -> None:
        """What a run does before its first step."""
        keep_heap()

    def step(self) -> None:
        """One of this side's."""
        self.trainer.train_step()

    def __call__(self, steps: int) -> list[float]:
        """See the class."""
        self.learn(steps)
        told = []
        for look in () if steps else self.looks:
            self.learn(look - self.done)
            told.append(round(self.lpips(), 4))
        return told

    def learn(self, steps: int) -> None:
        """So many more."""
        for _ in range(steps):
            self.step()
            self.done += 1

    def lpips(self) -> float:
        """Mean over frames of the validation block; of the generator as it is, not of the average of its weights."""
        pairs = self.data.pairs(self.data.split.validation)
        t = pairs[np.linspace(0, len(pairs) - 1, _LOOKED_AT).round().astype(int)]
        generator, lpips = self.trainer.state.generator.module, perceptual_metric()
        made = [sampled(generator, self.data, self.recipe, None, t[i : i + 1]) for i in range(len(t))]
        return float(np.mean([lpips(to_pictures(result), to_pictures(truth)).mean() for _, result, truth in made]))


class Lessons2019(Lessons):
    """The same pairs, figures and pictures, from the same weights."""

    def begin(self) -> None:
        """Take the networks over."""
        stage = self.trainer.stage
        assert isinstance(stage, PictureStage) and stage.perceptual is not None
        networks = (stage.state.generator.module, stage.state.discriminator.module)
        self.training = Training2019(*networks, stage.perceptual)

    def step(self) -> None:
        """One pair."""
        lesson = self.trainer.stage.lesson
        t = step_pairs(self.done, lesson.pairs, lesson.recipe.training)
        self.training.step(*self.data.batch(t, pair_views(self.data.poses, t, lesson.recipe)))
