"""The paper's ablation, trained as a fleet of three recipes and several seeds."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from cluster.storage.open import open_storage
from cluster.training.fleet import train_fleet
from cluster.training.fleet_file import FleetTarget
from cluster.training.placement import ResourceRequest
from cluster.training.status import TargetStatus
from dancedist.errors import DancedistError
from dancedist.evaluation.ablation import values_of
from dancedist.evaluation.renditions import DANCER, NEAREST
from dancedist.evaluation.report import Report
from dancedist.recipe.loading import merged, parse_recipe, plain
from dancedist.recipe.schema import Recipe

ROWS = ("frame by frame", "+ temporal smoothing", "+ face")
# Share of the face stage in all steps, and of the global stage in the others. The authors train the face for 5 of 40
# epochs, and the global generator for 5 of the other 35.
FACE_SHARE, GLOBAL_SHARE = 0.15, 5 / 35


class AblationIncomplete(DancedistError):
    """A training of the ablation failed, so the table is incomplete."""

    slug = "ablation-incomplete"


def ablation_recipes(recipe: Recipe, steps: int, seed: int) -> dict[str, Recipe]:
    """Recipes of the paper's three rows, with `steps` steps each: frame by frame, + temporal smoothing, + face."""
    return {
        ROWS[0]: _row(recipe, steps, seed, temporal=False, face=False),
        ROWS[1]: _row(recipe, steps, seed, temporal=True, face=False),
        ROWS[2]: _row(recipe, steps, seed, temporal=True, face=True),
    }


def run_ablation(
    name: str,
    videos: Sequence[str],
    recipe: Recipe,
    resources: ResourceRequest,
    steps: int,
    seeds: int,
    storage_uri: str,
) -> tuple[dict[str, Any], list[TargetStatus]]:
    """Train all rows and seeds, except those trained before; returns the measured values and the fleet's rows.

    The values are those of dancedist.evaluation.ablation.values_of. Raises AblationIncomplete if a training failed,
    and the errors of cluster.training.fleet.train_fleet.
    """
    targets = {
        (row, seed): FleetTarget(
            name=f"{name}-{number}-seed{seed}", videos=tuple(videos), consent=None, recipe=changed, resources=resources
        )
        for seed in range(seeds)
        for number, (row, changed) in enumerate(ablation_recipes(recipe, steps, seed).items())
    }
    rows = {row.target: row for row in train_fleet([*targets.values()], storage_uri, f"ablation-{name}")}
    failed = [row for row in rows.values() if row.state not in ("done", "found done")]
    if failed:
        reasons = "; ".join(f"{row.target}: {row.why}" for row in failed)
        raise AblationIncomplete("not every training has finished", expected=f"{len(rows)} finished", got=reasons)
    reports: dict[str, dict[int, Report]] = {row: {} for row in ROWS}
    for (row, seed), target in targets.items():
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
    return parse_recipe(merged(plain(recipe), changes))


def _report(row: TargetStatus) -> Report:
    store = open_storage(row.bundle.rpartition("/")[0])
    return Report.from_dict(json.loads(store.read("report.json")))
