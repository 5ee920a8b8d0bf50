from __future__ import annotations

import pytest

from cluster.evaluation.ablation import ROWS, ablation_recipes
from dancedist.recipe.loading import load_recipe
from dancedist.training.schedule import total_steps


@pytest.mark.parametrize("preset", ["quick", "paper"])
def test_every_row_has_the_same_steps_and_adds_one_part(preset: str) -> None:
    recipes = ablation_recipes(load_recipe(preset), 1000, seed=2)
    assert tuple(recipes) == ROWS
    lengths = {row: {s: total_steps(77, r.at_stage(s).training) for s in r.stages} for row, r in recipes.items()}
    assert [sum(each.values()) for each in lengths.values()] == [1000, 1000, 1000]
    assert lengths[ROWS[2]]["face"] == 150
    assert [recipe.training.temporal for recipe in recipes.values()] == [False, True, True]
    assert ["face" in recipe.stages for recipe in recipes.values()] == [False, False, True]
    assert {("local" in recipe.stages) for recipe in recipes.values()} == {preset == "paper"}
    assert {recipe.training.seed for recipe in recipes.values()} == {2}
    plain, temporal = (recipes[row].model_dump() for row in ROWS[:2])
    plain["training"]["temporal"] = True
    assert plain == temporal
