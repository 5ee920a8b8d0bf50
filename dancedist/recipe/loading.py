"""Load recipes from presets, TOML files and overrides."""

from __future__ import annotations

import logging
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from dancedist.errors import RecipeInvalid
from dancedist.recipe.schema import Recipe, RecipeSection

PRESETS = ("quick", "fast", "paper")
log = logging.getLogger("dancedist")


def load_recipe(preset: str = "paper", file: Path | None = None, overrides: Mapping[str, Any] | None = None) -> Recipe:
    """Load a preset, override it with the TOML file, then with `overrides`. Raises RecipeInvalid."""
    if preset not in PRESETS:
        raise RecipeInvalid("unknown preset", expected=" or ".join(PRESETS), got=preset)
    settings = tomllib.loads((resources.files("dancedist") / "presets" / f"{preset}.toml").read_text())
    if file is not None:
        settings = merged(settings, _read_toml(file))
    return parse_recipe(merged(settings, with_current_names(overrides or {})), file)


def parse_recipe(settings: Mapping[str, Any], file: Path | None = None) -> Recipe:
    """Validate plain data as a recipe. Raises RecipeInvalid, which lists every invalid setting."""
    try:
        return Recipe.model_validate(settings)
    except ValidationError as error:
        invalid = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise RecipeInvalid(invalid, file=file) from error


def override_recipe(recipe: Recipe, file: Path, sections: Sequence[str]) -> Recipe:
    """Override a recipe with a TOML file, which may contain these sections only. Raises RecipeInvalid."""
    settings = _read_toml(file)
    if others := sorted(set(settings) - set(sections)):
        expected, got = " or ".join(f"[{section}]" for section in sections), ", ".join(f"[{name}]" for name in others)
        raise RecipeInvalid("changes settings that the dancer was trained with", file=file, expected=expected, got=got)
    return parse_recipe(merged(plain(recipe), settings), file)


def plain(recipe: Recipe) -> dict[str, Any]:
    """The recipe as plain data under current names, for merging with other settings."""
    return recipe.model_dump(mode="json", by_alias=False)


def merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Merge settings table by table; `over` takes precedence."""
    both = {k: merged(base[k], v) for k, v in over.items() if isinstance(v, dict) and isinstance(base.get(k), dict)}
    return {**base, **over, **both}


def with_current_names(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Replace old field names in a user's settings by current ones; log a warning for each."""
    current = dict(settings)
    for section, old, new in _renamed_fields():
        table = current.get(section)
        if isinstance(table, dict) and old in table:
            log.warning("warning: [%s] %s is now called %s", section, old, new)
            current[section] = {new if name == old else name: value for name, value in table.items()}
    return current


def _renamed_fields() -> Iterator[tuple[str, str, str]]:
    """Section, old and new name of every renamed field."""
    for section, field in Recipe.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, RecipeSection):
            for name, info in field.annotation.model_fields.items():
                if info.serialization_alias is not None:
                    yield section, info.serialization_alias, name


def _read_toml(file: Path) -> dict[str, Any]:
    try:
        return with_current_names(tomllib.loads(file.read_text()))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise RecipeInvalid("cannot be read", file=file, expected="a TOML file", got=str(error)) from error
