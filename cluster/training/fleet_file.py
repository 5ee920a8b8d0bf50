"""fleet.toml: which dancers are trained, from which videos, with whose consent, and how.

Everything that is wrong with it is told at once, before anything starts.
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

from cluster.storage.base import open_storage, split_uri
from cluster.training.placement import Need
from dancedist.errors import DancedistError
from dancedist.recipe import PRESETS, Recipe, load_recipe, merged

THREADS = 16
NAME = "[A-Za-z0-9][A-Za-z0-9._-]{0,99}"
# What else lies in a storage, beside the targets' folders.
NOT_NAMES = frozenset({"first", "mlflow", "poses", "renders"})
_OTHERWISE = {"preset": PRESETS[0], "workers": 1, "cpus": 1.0, "gpus": 0.0}


class FleetInvalid(DancedistError):
    """A fleet.toml that says something else than which dancers to train."""

    slug = "fleet-invalid"


class _Table(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Consent(_Table):
    """Who agreed to be trained on, when, and where that is written down."""

    who: str = Field(min_length=1)
    when: datetime.date
    reference: str = Field(min_length=1)


def _several(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


class _Settings(_Table):
    """What [defaults] may say for all targets, and each [[target]] for itself."""

    preset: str | None = None
    overrides: dict[str, Any] = Field(default_factory=dict)
    workers: int | None = Field(None, ge=1)
    cpus: float | None = Field(None, gt=0)
    gpus: float | None = Field(None, ge=0)


def _not_taken(name: str) -> str:
    if name.lower() in NOT_NAMES:
        raise ValueError(f"is a folder of the storage, as are {', '.join(sorted(NOT_NAMES))}")
    return name


class _TargetTable(_Settings):
    name: Annotated[str, Field(pattern=f"^{NAME}$"), AfterValidator(_not_taken)]
    videos: Annotated[list[str], BeforeValidator(_several)] = Field(min_length=1)
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
    need: Need


def read_fleet(file: Path) -> list[FleetTarget]:
    """The targets of a fleet.toml, in its order. Raises FleetInvalid, which names every fault there is."""
    try:
        plain = tomllib.loads(file.read_text())
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise FleetInvalid("cannot be read", file=file, expected="a TOML file", got=str(error)) from error
    try:
        table = _FleetTable.model_validate(plain)
    except ValidationError as error:
        told = [f"{_where(e['loc'], plain)}: {e['msg']}" for e in error.errors()]
        raise FleetInvalid("; ".join(told), file=file) from error
    faults = [*_same_names(table)]
    targets = [_target(table.defaults, target, file.parent, faults) for target in table.target]
    uris = {uri: target.name for target in reversed(table.target) for uri in _uris(target, file.parent)}
    with ThreadPoolExecutor(THREADS) as pool:
        wrong = pool.map(_what_is_wrong, uris)
    faults += [f"{uris[uri]}: {why}" for uri, why in zip(uris, wrong, strict=True) if why]
    if faults:
        raise FleetInvalid("; ".join(faults), file=file)
    return [target for target in targets if target is not None]


def _where(place: tuple[int | str, ...], plain: dict[str, Any]) -> str:
    """`target.2.naem` as the user knows it: by the target's name, where it has one."""
    if len(place) > 1 and place[0] == "target" and isinstance(place[1], int):
        table = plain["target"][place[1]]
        name = table.get("name") if isinstance(table, dict) else None
        place = (name if isinstance(name, str) else f"target {place[1] + 1}", *place[2:])
    return ".".join(map(str, place))


def _same_names(table: _FleetTable) -> Iterator[str]:
    # A registry that folds case would mix two dancers up.
    for name, times in Counter(target.name.lower() for target in table.target).items():
        if times > 1:
            yield f"{name}: {times} targets have this name"


def _target(defaults: _Settings, table: _TargetTable, folder: Path, faults: list[str]) -> FleetTarget | None:
    both = {**_OTHERWISE, **defaults.model_dump(exclude_none=True), **table.model_dump(exclude_none=True)}
    try:
        recipe = load_recipe(both["preset"], overrides=merged(defaults.overrides, table.overrides))
        need = Need(both["workers"], both["cpus"], both["gpus"])
    except (DancedistError, ValueError) as error:
        faults.append(f"{table.name}: {error}")
    else:
        uris = tuple(_uris(table, folder))
        return FleetTarget(name=table.name, videos=uris, consent=table.consent, recipe=recipe, need=need)
    return None


def _uris(table: _TargetTable, folder: Path) -> Iterator[str]:
    """Relative paths are the fleet file's: where the job runs, nothing is known of where the user stood."""
    for video in table.videos:
        yield absolute(video, folder)


def absolute(video: str, folder: Path) -> str:
    """URI of a video; a relative path is meant from `folder`."""
    return video if "://" in video else os.path.abspath(folder / video)


def _what_is_wrong(uri: str) -> str | None:
    try:
        store, name = split_uri(uri)
        return None if open_storage(store).stat(name) else f"{uri} is not there"
    except DancedistError as error:
        return str(error)
