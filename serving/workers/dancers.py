"""The registered dancers that the service offers."""

from __future__ import annotations

import re
from functools import lru_cache

from pydantic import BaseModel

from cluster.tracking.mlflow_client import tracking_uri
from cluster.tracking.registry import CHAMPION, DancerVersion, fetch_portrait, find_dancer, list_dancers, model_name
from serving.problems import RequestRejected

_REFERENCE = re.compile(r"(?P<name>[A-Za-z0-9_.-]{1,200})(@(?P<alias>[A-Za-z0-9_.-]{1,200})|:(?P<version>\d{1,9}))?")
_PREFIX = model_name("")


class DancerView(BaseModel):
    """A version of a dancer that can be requested."""

    name: str
    version: int
    aliases: list[str]
    consent: bool
    metrics: dict[str, float]
    sample: str


class Dancers:
    """The dancers in the MLflow registry of a storage. All methods raise RegistryUnavailable, TrackingRefused."""

    def __init__(self, storage: str, *, without_consent: bool) -> None:
        self._storage, self._without_consent = storage, without_consent
        # Versions never change.
        self._samples = lru_cache(maxsize=256)(self._fetch_picture)

    @property
    def registry(self) -> str:
        """URI of the MLflow registry."""
        return tracking_uri(self._storage)

    def find(self, named: str) -> DancerVersion:
        """Resolve `NAME`, `NAME@ALIAS` or `NAME:VERSION` to a version. Raises DancerUnknown, RequestRejected."""
        parts = _REFERENCE.fullmatch(named)
        if parts is None:
            raise RequestRejected(
                "dancer-unknown", "does not name a dancer", expected="NAME, NAME@ALIAS or NAME:VERSION", got=named
            )
        name = model_name(parts["name"])
        if parts["version"]:
            return find_dancer(f"models:/{name}/{int(parts['version'])}", self.registry)
        return find_dancer(f"models:/{name}@{parts['alias'] or CHAMPION}", self.registry)

    def require_consent(self, version: DancerVersion) -> None:
        """Raise RequestRejected unless the version has a recorded consent or none is required."""
        if not self._without_consent and not _has_consent(version):
            raise RequestRejected("consent-missing", "has no recorded consent to be rendered", file=version.name)

    def list(self) -> list[DancerView]:
        """All dancers: champions, candidates and newest versions."""
        return [_view(version, aliases) for version, aliases in list_dancers(self.registry)]

    def sample(self, named: str) -> bytes:
        """The sample picture of a dancer as PNG. Raises DancerUnknown, RequestRejected."""
        version = self.find(named)
        return self._samples(version.name, version.number)

    def _fetch_picture(self, name: str, number: int) -> bytes:
        picture = fetch_portrait(find_dancer(f"models:/{name}/{number}", self.registry), self.registry)
        if picture is None:
            raise RequestRejected("not-found", "has no sample picture", file=f"{name}:{number}")
        return picture


def _has_consent(version: DancerVersion) -> bool:
    return any(tag.startswith("consent.") for tag in version.tags)


def _view(version: DancerVersion, aliases: frozenset[str]) -> DancerView:
    name = version.name.removeprefix(_PREFIX)
    metrics = {k.removeprefix("metric."): float(v) for k, v in version.tags.items() if k.startswith("metric.")}
    return DancerView(
        name=name,
        version=version.number,
        aliases=sorted(aliases),
        consent=_has_consent(version),
        metrics=metrics,
        sample=f"/v1/dancers/{name}:{version.number}/sample",
    )
