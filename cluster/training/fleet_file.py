"""fleet.toml: which dancers are trained, from which videos, with whose consent, and how.

All errors in the file are reported at once, before anything starts.
"""

from __future__ import annotations

import datetime
import os
import tomllib
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from cluster.storage.open import open_storage, split_uri
from cluster.training.placement import ResourceRequest
from dancedist.errors import DancedistError
from dancedist.recipe.loading import PRESETS, load_recipe, merged
from dancedist.recipe.schema import Recipe

THREADS = 16
NAME = "[A-Za-z0-9][A-Za-z0-9._-]{0,99}"
# Folders of a storage that are not targets.
RESERVED_NAMES = frozenset({"first", "mlflow", "poses", "renders"})
_DEFAULTS = {"preset": PRESETS[0], "workers": 1, "cpus": 1.0, "gpus": 0.0}


class FleetInvalid(DancedistError):
    """fleet.toml is not a valid list of dancers to train."""

    slug = "fleet-invalid"


class _Table(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Consent(_Table):
    """Who consented to training, when, and where the consent is documented."""

    who: str = Field(min_length=1)
    when: datetime.date
    reference: str = Field(min_length=1)


def _as_list(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


class _Settings(_Table):
    """Settings that [defaults] sets for all targets and that each [[target]] may override."""

    preset: str | None = None
    overrides: dict[str, Any] = Field(default_factory=dict)
    workers: int | None = Field(None, ge=1)
    cpus: float | None = Field(None, gt=0)
    gpus: float | None = Field(None, ge=0)


def _not_reserved(name: str) -> str:
    if name.lower() in RESERVED_NAMES:
        raise ValueError(f"is a reserved folder of the storage, as are {', '.join(sorted(RESERVED_NAMES))}")
    return name


class _TargetTable(_Settings):
    name: Annotated[str, Field(pattern=f"^{NAME}$"), AfterValidator(_not_reserved)]
    videos: Annotated[list[str], BeforeValidator(_as_list)] = Field(min_length=1)
    consent: Consent | None = None


class _FleetTable(_Table):
    defaults: _Settings = _Settings()
    target: list[_TargetTable] = Field(min_length=1)


class FleetTarget(BaseModel):
    """One dancer to train: `videos` are absolute URIs, `recipe` is resolved."""

    model_config = ConfigDict(frozen=True)

    name: str
    videos: tuple[str, ...]
    consent: Consent | None
    recipe: Recipe
    resources: ResourceRequest


def read_fleet(file: Path) -> list[FleetTarget]:
    """Read the targets of a fleet.toml, in its order. Raises FleetInvalid, which names every error in the file."""
    try:
        data = tomllib.loads(file.read_text())
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise FleetInvalid("cannot be read", file=file, expected="a TOML file", got=str(error)) from error
    try:
        table = _FleetTable.model_validate(data)
    except ValidationError as error:
        messages = [f"{_where(e['loc'], data)}: {e['msg']}" for e in error.errors()]
        raise FleetInvalid("; ".join(messages), file=file) from error
    problems = [*_duplicate_names(table)]
    targets = [_target(table.defaults, target, file.parent, problems) for target in table.target]
    uris = {uri: target.name for target in reversed(table.target) for uri in _uris(target, file.parent)}
    with ThreadPoolExecutor(THREADS) as pool:
        video_problems = pool.map(_video_problem, uris)
    problems += [f"{uris[uri]}: {why}" for uri, why in zip(uris, video_problems, strict=True) if why]
    if problems:
        raise FleetInvalid("; ".join(problems), file=file)
    return [target for target in targets if target is not None]


def _where(location: tuple[int | str, ...], data: dict[str, Any]) -> str:
    """Render a pydantic location such as `target.2.naem` with the target's name in place of its number, if any."""
    if len(location) > 1 and location[0] == "target" and isinstance(location[1], int):
        table = data["target"][location[1]]
        name = table.get("name") if isinstance(table, dict) else None
        location = (name if isinstance(name, str) else f"target {location[1] + 1}", *location[2:])
    return ".".join(map(str, location))


def _duplicate_names(table: _FleetTable) -> Iterator[str]:
    # A registry that ignores case would confuse the two dancers.
    for name, times in Counter(target.name.lower() for target in table.target).items():
        if times > 1:
            yield f"{name}: {times} targets have this name"


def _target(defaults: _Settings, table: _TargetTable, folder: Path, problems: list[str]) -> FleetTarget | None:
    settings = {**_DEFAULTS, **defaults.model_dump(exclude_none=True), **table.model_dump(exclude_none=True)}
    try:
        recipe = load_recipe(settings["preset"], overrides=merged(defaults.overrides, table.overrides))
        resources = ResourceRequest(settings["workers"], settings["cpus"], settings["gpus"])
    except (DancedistError, ValueError) as error:
        problems.append(f"{table.name}: {error}")
    else:
        uris = tuple(_uris(table, folder))
        return FleetTarget(name=table.name, videos=uris, consent=table.consent, recipe=recipe, resources=resources)
    return None


def _uris(table: _TargetTable, folder: Path) -> Iterator[str]:
    """Relative paths are relative to the fleet file: the job does not know the user's working directory."""
    for video in table.videos:
        yield absolute_uri(video, folder)


def absolute_uri(video: str, folder: Path) -> str:
    """Absolute URI or path of a video; a relative path is resolved against `folder`."""
    return video if "://" in video else os.path.abspath(folder / video)


def _video_problem(uri: str) -> str | None:
    try:
        store, name = split_uri(uri)
        return None if open_storage(store).stat(name) else f"{uri} does not exist"
    except DancedistError as error:
        return str(error)
