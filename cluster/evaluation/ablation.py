"""What each part of the method is worth: the paper's ablation as a fleet of three recipes and several seeds."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from cluster.storage.base import open_storage
from cluster.training.fleet import train_fleet
from cluster.training.fleet_file import FleetTarget
from cluster.training.placement import Need
from cluster.training.status import Row
from dancedist.errors import DancedistError
from dancedist.evaluation.ablation import values_of
from dancedist.evaluation.evaluation import DANCER, NEAREST
from dancedist.evaluation.report import Report
from dancedist.recipe import Recipe, merged, parse_recipe

ROWS = ("frame by frame", "+ temporal smoothing", "+ face")
# Of all steps; the authors' stages have 5 epochs of 40, and 5 of 35 of the others are the global generator's.
FACE_SHARE, GLOBAL_SHARE = 0.15, 5 / 35


class AblationIncomplete(DancedistError):
    """A table that lacks a training."""

    slug = "ablation-incomplete"


def ablation_recipes(recipe: Recipe, steps: int, seed: int) -> dict[str, Recipe]:
    """The paper's three rows, each of `steps` steps in all: frame by frame, + temporal smoothing, + face."""
    return {
        ROWS[0]: _row(recipe, steps, seed, temporal=False, face=False),
        ROWS[1]: _row(recipe, steps, seed, temporal=True, face=False),
        ROWS[2]: _row(recipe, steps, seed, temporal=True, face=True),
    }


def run_ablation(
    name: str, videos: Sequence[str], recipe: Recipe, need: Need, steps: int, seeds: int, storage_uri: str
) -> tuple[dict[str, Any], list[Row]]:
    """Train what is not trained yet, and gather what was measured: metrics.ablation's values, and the fleet's rows.

    Raises AblationIncomplete where a training failed, and what cluster.training.fleet.train_fleet does.
    """
    several = {
        (row, seed): FleetTarget(
            name=f"{name}-{place}-seed{seed}", videos=tuple(videos), consent=None, recipe=changed, need=need
        )
        for seed in range(seeds)
        for place, (row, changed) in enumerate(ablation_recipes(recipe, steps, seed).items())
    }
    rows = {row.target: row for row in train_fleet([*several.values()], storage_uri, f"ablation-{name}")}
    failed = [row for row in rows.values() if row.state not in ("done", "found done")]
    if failed:
        told = "; ".join(f"{row.target}: {row.why}" for row in failed)
        raise AblationIncomplete("not every training was finished", expected=f"{len(rows)}", got=told)
    reports: dict[str, dict[int, Report]] = {row: {} for row in ROWS}
    for (row, seed), target in several.items():
        reports[row][seed] = _report(rows[target.name])
    return values_of(reports, DANCER, NEAREST), [*rows.values()]


def _row(recipe: Recipe, steps: int, seed: int, *, temporal: bool, face: bool) -> Recipe:
    face_steps = round(steps * FACE_SHARE) if face else 0
    local = "local" in recipe.stages
    global_steps = round((steps - face_steps) * GLOBAL_SHARE) if local else steps - face_steps
    stages = ["global", *(["local"] if local else []), *(["face"] if face else [])]
    changes: Mapping[str, Any] = {
        "stages": stages,
        "training": {"max_steps": global_steps, "epochs": 1e9, "temporal": temporal, "seed": seed},
        "local": {"max_steps": max(1, steps - face_steps - global_steps), "epochs": 1e9},
        "face": {"max_steps": max(1, face_steps), "epochs": 1e9},
    }
    return parse_recipe(merged(recipe.model_dump(mode="json"), changes))


def _report(row: Row) -> Report:
    place = open_storage(row.bundle.rpartition("/")[0])
    return Report.from_dict(json.loads(place.read("report.json")))
