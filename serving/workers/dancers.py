"""The dancers of the registry, as the service offers them."""

from __future__ import annotations

import re
from functools import lru_cache

from pydantic import BaseModel

from cluster.tracking.mlflow_client import tracking_uri
from cluster.tracking.registry import CHAMPION, Version, fetch_picture, find_dancer, list_dancers, model_name
from serving.api.errors import Refused

_NAMED = re.compile(r"(?P<name>[A-Za-z0-9_.-]{1,200})(@(?P<alias>[A-Za-z0-9_.-]{1,200})|:(?P<version>\d{1,9}))?")
_PREFIX = model_name("")


class DancerView(BaseModel):
    """A version of a dancer that can be asked for."""

    name: str
    version: int
    aliases: list[str]
    consent: bool
    metrics: dict[str, float]
    sample: str


class Dancers:
    """What the MLflow of a storage has. Every method raises RegistryUnavailable, TrackingRefused."""

    def __init__(self, storage: str, *, without_consent: bool) -> None:
        self._storage, self._without_consent = storage, without_consent
        # Versions never change.
        self._samples = lru_cache(maxsize=256)(self._fetch_picture)

    @property
    def registry(self) -> str:
        """Where MLflow is."""
        return tracking_uri(self._storage)

    def find(self, named: str) -> Version:
        """The version that `NAME`, `NAME@ALIAS` or `NAME:VERSION` means now. Raises DancerUnknown, Refused."""
        parts = _NAMED.fullmatch(named)
        if parts is None:
            raise Refused("dancer-unknown", "names no dancer", expected="NAME, NAME@ALIAS or NAME:VERSION", got=named)
        name = model_name(parts["name"])
        if parts["version"]:
            return find_dancer(f"models:/{name}/{int(parts['version'])}", self.registry)
        return find_dancer(f"models:/{name}@{parts['alias'] or CHAMPION}", self.registry)

    def require_consent(self, version: Version) -> None:
        """Raises Refused."""
        if not self._without_consent and not _consented(version):
            raise Refused("consent-missing", "nobody is known to have consented to be rendered", file=version.name)

    def list(self) -> list[DancerView]:
        """All of them, their champions and candidates."""
        return [_view(version, aliases) for version, aliases in list_dancers(self.registry)]

    def sample(self, named: str) -> bytes:
        """Its sample picture, PNG. Raises DancerUnknown, Refused."""
        version = self.find(named)
        return self._samples(version.name, version.number)

    def _fetch_picture(self, name: str, number: int) -> bytes:
        picture = fetch_picture(find_dancer(f"models:/{name}/{number}", self.registry), self.registry)
        if picture is None:
            raise Refused("not-found", "has no sample picture", file=f"{name}:{number}")
        return picture


def _consented(version: Version) -> bool:
    return any(tag.startswith("consent.") for tag in version.tags)


def _view(version: Version, aliases: frozenset[str]) -> DancerView:
    name = version.name.removeprefix(_PREFIX)
    metrics = {k.removeprefix("metric."): float(v) for k, v in version.tags.items() if k.startswith("metric.")}
    return DancerView(
        name=name,
        version=version.number,
        aliases=sorted(aliases),
        consent=_consented(version),
        metrics=metrics,
        sample=f"/v1/dancers/{name}:{version.number}/sample",
    )
