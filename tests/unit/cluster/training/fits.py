"""A video of a few seconds to train on with Ray Train, and an actor that records progress events."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import ray

from cluster.training.placement import ResourceRequest
from cluster.training.target import ProgressEvent, TargetJob
from dancedist.pose.sequence import write_poses
from dancedist.recipe.schema import Recipe
from dancedist.synthetic import TARGET_TEST
from dancedist.video.encode import write_film
from tests.unit.conftest import toy_recipe

ROOT = Path(__file__).parents[4]


def dance(folder: Path) -> Path:
    """`film.mp4` of 3 s and the true poses, `film.parquet`."""
    scene = replace(TARGET_TEST, dances=TARGET_TEST.dances[:1], seconds_each=3.0, size=(96, 128))
    folder.mkdir(parents=True, exist_ok=True)
    write_film(folder / "film.mp4", scene.frames(), scene.fps, crf=12, x264_preset="ultrafast")
    write_poses(scene.poses(), folder / "film.parquet")
    return folder / "film.mp4"


def small(*later: str, zero_stage: int = 1, elastic: bool = False, **training: Any) -> Recipe:
    """The toy recipe with a batch for one or two workers; `later`: further training stages."""
    recipe = toy_recipe(*later, **{"batch_pairs": 4, "max_steps": 20, **training})
    distributed = recipe.distributed.model_copy(update={"zero_stage": zero_stage, "elastic": elastic})
    return recipe.model_copy(update={"distributed": distributed})


def job(film: Path | str, storage: Path | str, recipe: Recipe, workers: int = 1) -> TargetJob:
    """Job to train the film's dancer."""
    poses = str(film).replace(".mp4", ".parquet")
    return TargetJob("rosa", (str(film),), recipe, ResourceRequest(workers, 1.0), str(storage), (poses,))


@ray.remote(num_cpus=0)
class EventRecorder:
    """Collects events, and their rows without repetitions, as the fleet's driver does."""

    def __init__(self) -> None:
        self.rows: list[dict[str, float]] = []
        self.events: list[ProgressEvent] = []

    def receive(self, event: ProgressEvent) -> None:
        known = self.rows[-1]["step"] if self.rows else -1
        self.rows += [row for row in event.rows if row["step"] > known]
        self.events.append(event)

    def recorded(self) -> tuple[list[dict[str, float]], list[ProgressEvent]]:
        return self.rows, self.events
