from __future__ import annotations

import json
from pathlib import Path

import pytest

from dancedist.errors import RecipeInvalid
from dancedist.recipe.fingerprint import fingerprint
from dancedist.recipe.loading import PRESETS, load_recipe, override_recipe, parse_recipe, plain
from dancedist.recipe.schema import Recipe


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_parses_and_survives_json(preset: str) -> None:
    recipe = load_recipe(preset)
    assert parse_recipe(json.loads(recipe.model_dump_json())) == recipe


def test_the_paper_preset_is_the_defaults() -> None:
    assert load_recipe("paper") == Recipe()


def test_a_file_overrides_only_what_it_contains(tmp_path: Path) -> None:
    file = tmp_path / "r.toml"
    file.write_text("[training]\nseed = 7\n")
    assert load_recipe("quick", file).training.seed == 7
    assert load_recipe("quick", file).generator == load_recipe("quick").generator


def test_all_invalid_settings_are_reported_at_once(tmp_path: Path) -> None:
    file = tmp_path / "r.toml"
    file.write_text("[training]\nseeed = 7\n[generator]\nfilters = 0\n")
    with pytest.raises(RecipeInvalid) as caught:
        load_recipe("quick", file)
    assert all(word in str(caught.value) for word in ("training.seeed", "generator.filters", str(file)))


@pytest.mark.parametrize("content", [b"= broken", b"\xff\xfe"])
def test_a_file_that_is_not_toml_is_refused(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "r.toml"
    file.write_bytes(content)
    with pytest.raises(RecipeInvalid):
        load_recipe("quick", file)
    with pytest.raises(RecipeInvalid):
        load_recipe("quick", tmp_path / "nowhere.toml")


def test_a_window_without_a_background_is_refused() -> None:
    with pytest.raises(RecipeInvalid, match=r"needs generator\.background"):
        parse_recipe({"generator": {"window": True}})
    with pytest.raises(RecipeInvalid, match=r"needs generator\.window"):
        parse_recipe({"training": {"rotation_degrees": 5.0}})
    with pytest.raises(RecipeInvalid, match="empty figures"):
        parse_recipe({"generator": {"window": True, "background": True}, "figure": {"min_score": 0.5}})


def test_only_some_sections_of_a_dancers_recipe_can_be_overridden(tmp_path: Path) -> None:
    file, recipe = tmp_path / "r.toml", load_recipe("quick")
    file.write_text("[video]\ncrf = 30\n[retarget]\nalign_x = false\n")
    changed = override_recipe(recipe, file, ("video", "retarget"))
    assert (changed.video.crf, changed.retarget.align_x) == (30, False)
    assert changed.video.x264_preset == recipe.video.x264_preset
    assert changed.training == recipe.training
    file.write_text("[training]\nseed = 3\n")
    with pytest.raises(RecipeInvalid, match=r"trained with.*\[training\]"):
        override_recipe(recipe, file, ("video",))


def test_old_names_of_fields_still_work(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = tmp_path / "old.toml"
    file.write_text('[video]\nspeed = "slow"\n[training]\nturn_degrees = 4.0\n')
    old = load_recipe("quick", file)
    assert (old.video.x264_preset, old.training.rotation_degrees) == ("slow", 4.0)
    assert "[training] turn_degrees is now called rotation_degrees" in caplog.text
    file.write_text('[video]\nx264_preset = "slow"\n[training]\nrotation_degrees = 4.0\n')
    caplog.clear()
    assert load_recipe("quick", file) == old == load_recipe("quick", overrides=plain(old))
    assert not caplog.text
    # Stored under the old names, so that earlier results are found.
    assert json.loads(old.model_dump_json())["training"]["turn_degrees"] == 4.0


def test_an_unknown_preset_is_refused() -> None:
    with pytest.raises(RecipeInvalid, match="quick or fast or paper"):
        load_recipe("slow")


def test_fingerprint_changes_with_every_part() -> None:
    recipe = Recipe()
    other = recipe.pose.model_copy(update={"max_people": 4})
    keys = [fingerprint(recipe.pose, "a", 1), fingerprint(other, "a", 1), fingerprint(recipe.pose, "b", 1)]
    assert len(set(keys)) == 3
    assert fingerprint(recipe.pose, "a", 1) == keys[0]
