from __future__ import annotations

import json
from pathlib import Path

import pytest

from dancedist.errors import RecipeInvalid
from dancedist.recipe import PRESETS, Recipe, altered, fingerprint, load_recipe, parse_recipe


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_parses_and_survives_json(preset: str) -> None:
    recipe = load_recipe(preset)
    assert parse_recipe(json.loads(recipe.model_dump_json())) == recipe


def test_paper_is_the_defaults() -> None:
    assert load_recipe("paper") == Recipe()


def test_a_file_changes_what_it_names(tmp_path: Path) -> None:
    file = tmp_path / "r.toml"
    file.write_text("[training]\nseed = 7\n")
    assert load_recipe("quick", file).training.seed == 7
    assert load_recipe("quick", file).generator == load_recipe("quick").generator


def test_every_fault_is_named_at_once(tmp_path: Path) -> None:
    file = tmp_path / "r.toml"
    file.write_text("[training]\nseeed = 7\n[generator]\nfilters = 0\n")
    with pytest.raises(RecipeInvalid) as caught:
        load_recipe("quick", file)
    assert all(word in str(caught.value) for word in ("training.seeed", "generator.filters", str(file)))


@pytest.mark.parametrize("content", [b"= broken", b"\xff\xfe"])
def test_a_broken_file_is_refused(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "r.toml"
    file.write_bytes(content)
    with pytest.raises(RecipeInvalid):
        load_recipe("quick", file)
    with pytest.raises(RecipeInvalid):
        load_recipe("quick", tmp_path / "nowhere.toml")


def test_a_window_without_a_backdrop_is_refused() -> None:
    with pytest.raises(RecipeInvalid, match=r"needs generator\.backdrop"):
        parse_recipe({"generator": {"window": True}})
    with pytest.raises(RecipeInvalid, match=r"needs generator\.window"):
        parse_recipe({"training": {"turn_degrees": 5.0}})
    with pytest.raises(RecipeInvalid, match="empty figures"):
        parse_recipe({"generator": {"window": True, "backdrop": True}, "figure": {"min_score": 0.5}})


def test_a_dancers_recipe_is_altered_in_some_parts_only(tmp_path: Path) -> None:
    file, recipe = tmp_path / "r.toml", load_recipe("quick")
    file.write_text("[video]\ncrf = 30\n[retarget]\nalign_x = false\n")
    changed = altered(recipe, file, ("video", "retarget"))
    assert (changed.video.crf, changed.retarget.align_x, changed.video.speed) == (30, False, recipe.video.speed)
    assert changed.training == recipe.training
    file.write_text("[training]\nseed = 3\n")
    with pytest.raises(RecipeInvalid, match=r"trained with.*\[training\]"):
        altered(recipe, file, ("video",))


def test_no_such_preset() -> None:
    with pytest.raises(RecipeInvalid, match="quick or fast or paper"):
        load_recipe("slow")


def test_fingerprint_changes_with_every_part() -> None:
    recipe = Recipe()
    other = recipe.pose.model_copy(update={"max_people": 4})
    keys = [fingerprint(recipe.pose, "a", 1), fingerprint(other, "a", 1), fingerprint(recipe.pose, "b", 1)]
    assert len(set(keys)) == 3
    assert fingerprint(recipe.pose, "a", 1) == keys[0]
