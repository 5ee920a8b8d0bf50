"""Dancers in MLflow's model registry: `dancer-NAME`, a version for every training, `candidate` and `champion`.

A version's files are the bundle's own (safetensors, json, png, md): nothing that MLflow or anybody would unpickle.
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

from cluster.tracking.mlflow_client import RegistryUnavailable, answering, client_at, shown, tracking_uri
from dancedist.bundle.bundle import PORTRAIT, load_bundle
from dancedist.errors import DancedistError, FileInvalid
from dancedist.files import published_folder

CANDIDATE, CHAMPION = "candidate", "champion"
FILE_KINDS = frozenset({".safetensors", ".json", ".png", ".md"})
# Set last: aliases of a version that has it were set before, and may have been moved since.
_COMPLETE = "complete"
_URI = re.compile(r"models:/(?P<name>[^/@]+)(@(?P<alias>[^/@]+)|/(?P<version>\d+))")


class DancerUnknown(DancedistError):
    """No dancer, version or alias of that name in the registry."""

    slug = "dancer-unknown"


@dataclass(frozen=True)
class Version:
    """One version of a dancer, and where its files are."""

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
    """The registered model of a dancer."""
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
    """Make a version of the bundle, or find the one with its fingerprint; may be broken off and repeated anywhere.

    A new one becomes `candidate`, and `champion` too where there was none before it. Raises what MlflowClient does.
    """
    name = model_name(dancer)
    _ensure_model(client, name)
    found = _with_fingerprint(client, name, fingerprint)
    if found is None:
        path = f"dancer-{fingerprint[:16]}"
        # Before there is a version: one without its files must not be.
        client.log_artifacts(run_id, str(bundle), path)
        tags = {
            "fingerprint": fingerprint,
            **{f"metric.{key}": f"{value:.6g}" for key, value in metrics.items()},
            **{f"consent.{key}": value for key, value in consent.items()},
        }
        found = client.create_model_version(name, f"runs:/{run_id}/{path}", run_id, tags=tags)
    number = int(found.version)
    if _COMPLETE not in found.tags:
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
    found = client.search_model_versions(f"name = '{name}' AND tags.fingerprint = '{fingerprint}'")
    return min(found, key=lambda version: int(version.version), default=None)


def _is_first(client: MlflowClient, name: str, number: int) -> bool:
    return all(int(version.version) >= number for version in client.search_model_versions(f"name = '{name}'"))


def find_dancer(uri: str, registry: str) -> Version:
    """What `models:/dancer-NAME@ALIAS` or `models:/dancer-NAME/VERSION` names in the MLflow at `registry`.

    Raises DancerUnknown, RegistryUnavailable.
    """
    parts = _URI.fullmatch(uri)
    if parts is None:
        raise DancerUnknown(
            "names no dancer", file=uri, expected="models:/dancer-NAME@champion or models:/dancer-NAME/3"
        )
    if registry.startswith("sqlite:///") and not Path(registry.removeprefix("sqlite:///")).is_file():
        raise RegistryUnavailable(
            "there is no registry", file=shown(registry), expected="MLFLOW_TRACKING_URI or --storage"
        )
    name = parts["name"]
    with answering(registry):
        try:
            client = client_at(registry)
            if parts["alias"]:
                found = client.get_model_version_by_alias(name, parts["alias"])
            else:
                found = client.get_model_version(name, parts["version"])
        except MlflowException as error:
            if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                raise
            raise DancerUnknown("is not in the registry", file=uri, expected=_known(client, name)) from error
    if not found.source.startswith("runs:/"):
        raise FileInvalid("is no dancer", file=uri, expected="a version that a fleet registered", got=found.source)
    return _version(found)


def fetch_dancer(uri: str, folder: Path, storage_uri: str) -> Path:
    """Bring a dancer's bundle into `folder`, verified, from the MLflow that a fleet of this storage reports to.

    `uri` may also be a bundle's own folder, which stays in place. Raises DancerUnknown, RegistryUnavailable,
    TrackingRefused, and FileInvalid for what is no bundle, altered, or holds files of other kinds.
    """
    if not uri.startswith("models:"):
        load_bundle(Path(uri))
        return Path(uri)
    registry = tracking_uri(storage_uri)
    version = find_dancer(uri, registry)
    with answering(registry), published_folder(folder) as partial:
        client = client_at(registry)
        files = client.list_artifacts(version.run_id, version.path)
        odd = [file.path for file in files if file.is_dir or Path(file.path).suffix not in FILE_KINDS]
        if odd or not files:
            expected = f"only files of {', '.join(sorted(FILE_KINDS))}"
            raise FileInvalid("is no dancer", file=version.uri, expected=expected, got=", ".join(odd[:4]) or "nothing")
        with tempfile.TemporaryDirectory(dir=partial, prefix=".") as scratch:
            for file in files:
                shutil.move(client.download_artifacts(version.run_id, file.path, scratch), partial)
        load_bundle(partial)
    return folder


def list_dancers(registry: str, limit: int = 1000) -> list[tuple[Version, frozenset[str]]]:
    """Of every dancer the newest whole version and those with an alias; with their aliases.

    Raises RegistryUnavailable.
    """
    if registry.startswith("sqlite:///") and not Path(registry.removeprefix("sqlite:///")).is_file():
        return []
    with answering(registry):
        client = client_at(registry)
        found = []
        for model in client.search_registered_models("name LIKE 'dancer-%'", max_results=limit, order_by=["name ASC"]):
            versions = client.search_model_versions(f"name = '{model.name}'")
            complete = {int(v.version): v for v in versions if _COMPLETE in v.tags and v.source.startswith("runs:/")}
            shown_too = {int(number) for number in model.aliases.values()} | {max(complete, default=0)}
            for number in sorted(shown_too & complete.keys(), reverse=True):
                aliases = frozenset(alias for alias, v in model.aliases.items() if int(v) == number)
                found.append((_version(complete[number]), aliases))
        return found


def fetch_picture(version: Version, registry: str) -> bytes | None:
    """The portrait (PNG) in a version's bundle, or its sample where it has none. Raises RegistryUnavailable."""
    with answering(registry), tempfile.TemporaryDirectory(prefix="dancedist-") as scratch:
        client = client_at(registry)
        files = {file.path for file in client.list_artifacts(version.run_id, version.path)}
        for name in (f"{version.path}/{PORTRAIT}", f"{version.path}/sample.png"):
            if name in files:
                return Path(client.download_artifacts(version.run_id, name, scratch)).read_bytes()
    return None


def _version(found: ModelVersion) -> Version:
    run_id, _, path = found.source.removeprefix("runs:/").partition("/")
    return Version(found.name, int(found.version), run_id, path, found.tags)


def move_champion(version: Version, registry: str, tags: Mapping[str, str]) -> None:
    """Make this version the champion; `tags` are noted at it. Raises RegistryUnavailable."""
    with answering(registry):
        client = client_at(registry)
        for key, value in tags.items():
            client.set_model_version_tag(version.name, str(version.number), key, value)
        client.set_registered_model_alias(version.name, CHAMPION, str(version.number))


def _known(client: MlflowClient, name: str) -> str | None:
    """What there is instead."""
    try:
        aliases = client.get_registered_model(name).aliases
        return ", ".join(f"@{alias} ({number})" for alias, number in sorted(aliases.items())) or "a version"
    except MlflowException:
        models = client.search_registered_models("name LIKE 'dancer-%'", max_results=10)
        return ", ".join(model.name for model in models) or "a dancer; there is none yet"
