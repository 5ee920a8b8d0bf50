"""Dancers in MLflow's model registry: model `dancer-NAME`, one version per training, aliases candidate and champion.

A version's files are the bundle's files (safetensors, json, png, md): nothing that has to be unpickled.
"""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from cluster.tracking.mlflow_client import (
    RegistryUnavailable,
    client_at,
    mlflow_errors_as_unavailable,
    tracking_uri,
    without_password,
)
from dancedist.bundle.bundle import load_bundle
from dancedist.bundle.record import PORTRAIT
from dancedist.errors import DancedistError, FileInvalid
from dancedist.files import atomic_write_folder

CANDIDATE, CHAMPION = "candidate", "champion"
FILE_KINDS = frozenset({".safetensors", ".json", ".png", ".md"})
# Tag, set last: a version that has it got its aliases already; they may have been moved since.
_COMPLETE = "complete"
_URI = re.compile(r"models:/(?P<name>[^/@]+)(@(?P<alias>[^/@]+)|/(?P<version>\d+))")


class DancerUnknown(DancedistError):
    """The registry has no dancer, version or alias of that name."""

    slug = "dancer-unknown"


@dataclass(frozen=True)
class DancerVersion:
    """One version of a dancer and the location of its files: artifact folder `path` of run `run_id`."""

    name: str
    number: int
    run_id: str
    path: str
    tags: Mapping[str, str]

    @property
    def uri(self) -> str:
        """`models:/dancer-NAME/3`."""
        return f"models:/{self.name}/{self.number}"


def model_name(dancer: str) -> str:
    """Name of a dancer's registered model."""
    return f"dancer-{dancer}"


def register(
    client: MlflowClient,
    run_id: str,
    dancer: str,
    bundle: Path,
    fingerprint: str,
    metrics: Mapping[str, float],
    consent: Mapping[str, str],
) -> int:
    """Create a version from the bundle, or find the one with its fingerprint; return its number.

    Idempotent, even if interrupted anywhere. A new version becomes `candidate`; the first also `champion`.
    `metrics` and `consent` become tags. Raises what MlflowClient raises.
    """
    name = model_name(dancer)
    _ensure_model(client, name)
    version = _with_fingerprint(client, name, fingerprint)
    if version is None:
        path = f"dancer-{fingerprint[:16]}"
        # Files first: a version without its files must never exist.
        client.log_artifacts(run_id, str(bundle), path)
        tags = {
            "fingerprint": fingerprint,
            **{f"metric.{key}": f"{value:.6g}" for key, value in metrics.items()},
            **{f"consent.{key}": value for key, value in consent.items()},
        }
        version = client.create_model_version(name, f"runs:/{run_id}/{path}", run_id, tags=tags)
    number = int(version.version)
    if _COMPLETE not in version.tags:
        client.set_registered_model_alias(name, CANDIDATE, str(number))
        if CHAMPION not in client.get_registered_model(name).aliases and _is_first(client, name, number):
            client.set_registered_model_alias(name, CHAMPION, str(number))
        client.set_model_version_tag(name, str(number), _COMPLETE, "yes")
    return number


def _ensure_model(client: MlflowClient, name: str) -> None:
    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


def _with_fingerprint(client: MlflowClient, name: str, fingerprint: str) -> ModelVersion | None:
    versions = client.search_model_versions(f"name = '{name}' AND tags.fingerprint = '{fingerprint}'")
    return min(versions, key=lambda version: int(version.version), default=None)


def _is_first(client: MlflowClient, name: str, number: int) -> bool:
    return all(int(version.version) >= number for version in client.search_model_versions(f"name = '{name}'"))


def find_dancer(uri: str, registry: str) -> DancerVersion:
    """Look up `models:/dancer-NAME@ALIAS` or `models:/dancer-NAME/VERSION` in the MLflow at `registry`.

    Raises DancerUnknown, RegistryUnavailable.
    """
    parts = _URI.fullmatch(uri)
    if parts is None:
        raise DancerUnknown(
            "does not name a dancer", file=uri, expected="models:/dancer-NAME@champion or models:/dancer-NAME/3"
        )
    if registry.startswith("sqlite:///") and not Path(registry.removeprefix("sqlite:///")).is_file():
        raise RegistryUnavailable(
            "no registry exists at this address",
            file=without_password(registry),
            expected="MLFLOW_TRACKING_URI or --storage",
        )
    name = parts["name"]
    with mlflow_errors_as_unavailable(registry):
        try:
            client = client_at(registry)
            if parts["alias"]:
                version = client.get_model_version_by_alias(name, parts["alias"])
            else:
                version = client.get_model_version(name, parts["version"])
        except MlflowException as error:
            if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                raise
            raise DancerUnknown("is not in the registry", file=uri, expected=_known_names(client, name)) from error
    if not version.source.startswith("runs:/"):
        raise FileInvalid(
            "is not a dancer bundle", file=uri, expected="a version that a fleet registered", got=version.source
        )
    return _dancer_version(version)


def fetch_dancer(uri: str, folder: Path, storage_uri: str) -> Path:
    """Download and verify a dancer's bundle into `folder`, from the MLflow that fleets of this storage use.

    `uri` may also be a local bundle folder, which is returned itself. Raises DancerUnknown, RegistryUnavailable,
    TrackingRefused, and FileInvalid if it is not a bundle, was modified, or contains files of other kinds.
    """
    if not uri.startswith("models:"):
        load_bundle(Path(uri))
        return Path(uri)
    registry = tracking_uri(storage_uri)
    version = find_dancer(uri, registry)
    with mlflow_errors_as_unavailable(registry), atomic_write_folder(folder) as partial:
        client = client_at(registry)
        files = client.list_artifacts(version.run_id, version.path)
        unexpected = [file.path for file in files if file.is_dir or Path(file.path).suffix not in FILE_KINDS]
        if unexpected or not files:
            expected = f"only files of {', '.join(sorted(FILE_KINDS))}"
            raise FileInvalid(
                "is not a dancer bundle",
                file=version.uri,
                expected=expected,
                got=", ".join(unexpected[:4]) or "nothing",
            )
        with tempfile.TemporaryDirectory(dir=partial, prefix=".") as scratch:
            for file in files:
                shutil.move(client.download_artifacts(version.run_id, file.path, scratch), partial)
        load_bundle(partial)
    return folder


def list_dancers(registry: str, limit: int = 1000) -> list[tuple[DancerVersion, frozenset[str]]]:
    """List each dancer's newest complete version and the versions with an alias, with their aliases.

    `limit`: number of dancers at most. Raises RegistryUnavailable.
    """
    if registry.startswith("sqlite:///") and not Path(registry.removeprefix("sqlite:///")).is_file():
        return []
    with mlflow_errors_as_unavailable(registry):
        client = client_at(registry)
        dancers = []
        for model in client.search_registered_models("name LIKE 'dancer-%'", max_results=limit, order_by=["name ASC"]):
            versions = client.search_model_versions(f"name = '{model.name}'")
            complete = {int(v.version): v for v in versions if _COMPLETE in v.tags and v.source.startswith("runs:/")}
            listed_numbers = {int(number) for number in model.aliases.values()} | {max(complete, default=0)}
            for number in sorted(listed_numbers & complete.keys(), reverse=True):
                aliases = frozenset(alias for alias, v in model.aliases.items() if int(v) == number)
                dancers.append((_dancer_version(complete[number]), aliases))
        return dancers


def fetch_portrait(version: DancerVersion, registry: str) -> bytes | None:
    """Portrait of a version's bundle as PNG, else its sample, else None. Raises RegistryUnavailable."""
    with mlflow_errors_as_unavailable(registry), tempfile.TemporaryDirectory(prefix="dancedist-") as scratch:
        client = client_at(registry)
        files = {file.path for file in client.list_artifacts(version.run_id, version.path)}
        for name in (f"{version.path}/{PORTRAIT}", f"{version.path}/sample.png"):
            if name in files:
                return Path(client.download_artifacts(version.run_id, name, scratch)).read_bytes()
    return None


def _dancer_version(version: ModelVersion) -> DancerVersion:
    run_id, _, path = version.source.removeprefix("runs:/").partition("/")
    return DancerVersion(version.name, int(version.version), run_id, path, version.tags)


def move_champion(version: DancerVersion, registry: str, tags: Mapping[str, str]) -> None:
    """Make this version the champion and set `tags` on it. Raises RegistryUnavailable."""
    with mlflow_errors_as_unavailable(registry):
        client = client_at(registry)
        for key, value in tags.items():
            client.set_model_version_tag(version.name, str(version.number), key, value)
        client.set_registered_model_alias(version.name, CHAMPION, str(version.number))


def _known_names(client: MlflowClient, name: str) -> str | None:
    """Existing aliases or dancers, for an error message."""
    try:
        aliases = client.get_registered_model(name).aliases
        return ", ".join(f"@{alias} ({number})" for alias, number in sorted(aliases.items())) or "a version"
    except MlflowException:
        models = client.search_registered_models("name LIKE 'dancer-%'", max_results=10)
        return ", ".join(model.name for model in models) or "a dancer; none is registered yet"
