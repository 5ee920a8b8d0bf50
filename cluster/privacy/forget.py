"""Delete a person's data: footage, poses, trainings, versions, runs, renders; report what has to be done by hand."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

from cluster.privacy.eraser import Eraser
from cluster.privacy.inventory import DataInventory, find_data, purge_data
from cluster.privacy.mlflow_purge import (
    MlflowInventory,
    find_in_mlflow,
    find_reports,
    gc_runs,
    remove_model,
    remove_reports,
    remove_runs,
)
from cluster.storage.base import NameInvalid, Storage
from cluster.storage.open import open_storage
from cluster.tracking.mlflow_client import RegistryUnavailable, tracking_uri
from cluster.tracking.outbox import Outbox
from cluster.tracking.registry import model_name
from cluster.tracking.tracker import open_tracker, outbox_folder
from cluster.training.fleet_file import NAME, RESERVED_NAMES
from dancedist.errors import DancedistError

SEND_WITHIN_S = 60.0


class DancerInTraining(DancedistError):
    """The dancer is in training: deleted data would come back."""

    slug = "dancer-in-training"


@dataclass
class Report:
    """Data that was found, or removed if `removed`; data that was kept and why; what has to be done by hand."""

    dancer: str
    removed: bool
    found: dict[str, list[str]] = field(default_factory=dict)
    kept: dict[str, str] = field(default_factory=dict)
    left_to_do: list[str] = field(default_factory=list)

    def lines(self) -> Iterator[str]:
        """Lines for the terminal."""
        verb = "removed" if self.removed else "found"
        for kind, items in self.found.items():
            more = f" and {len(items) - 3} more" if len(items) > 3 else ""
            yield f"{verb}: {kind} ({len(items)}): {', '.join(items[:3])}{more}"
        yield from (f"kept: {item}: {why}" for item, why in self.kept.items())
        yield from (f"left to do: {line}" for line in self.left_to_do)
        if not self.found:
            yield f"no data of {self.dancer} was found"

    def text(self) -> str:
        """The report as JSON."""
        return json.dumps(asdict(self), indent=2) + "\n"


@dataclass(frozen=True)
class _Found:
    mlflow: MlflowInventory
    data: DataInventory
    reports: list[Path]
    external: dict[str, list[str]]

    def __bool__(self) -> bool:
        return bool(self.mlflow or self.data or self.reports or any(self.external.values()))


def forget(
    dancer: str,
    storage_uri: str,
    footage: Sequence[str] = (),
    erasers: Sequence[Eraser] = (),
    *,
    remove: bool,
    stopped: bool = False,
) -> Report:
    """Find all data of a dancer and, with `remove`, delete it. If interrupted, call it again to complete.

    `footage`: videos outside of the storage to delete as well; `erasers`: for data that other packages store;
    `stopped`: ignore that MLflow lists the dancer as in training, as it does after a kill.

    Raises NameInvalid, DancerInTraining, RegistryUnavailable, TrackingRefused, StorageUnavailable, and erasers' errors.
    """
    if not re.fullmatch(NAME, dancer) or dancer.lower() in RESERVED_NAMES:
        raise NameInvalid("is not a dancer's name", file=dancer, expected="name of a target in fleet.toml")
    registry, store = tracking_uri(storage_uri), open_storage(storage_uri)
    with _outbox_locked(storage_uri, send=remove):
        found = _find_all(dancer, storage_uri, store, registry, footage, erasers)
        if found.mlflow.running and not stopped:
            runs = ", ".join(run.info.run_id for run in found.mlflow.running)
            expected = "train_many stopped (Ctrl-C, ray job stop), or --stopped if it was killed"
            raise DancerInTraining(
                "is in training according to MLflow", file=dancer, expected=expected, got=f"runs {runs}"
            )
        if remove and found:
            # First, so that no new render can be requested.
            remove_model(registry, dancer)
            for eraser in erasers:
                eraser.erase(dancer)
            purge_data(store, found.data)
            remove_runs(registry, dancer, found.mlflow)
            remove_reports(found.reports)
            if registry.startswith("sqlite:") and found.mlflow.deleted:
                gc_runs(registry, found.mlflow.deleted)
            if _find_all(dancer, storage_uri, store, registry, footage, erasers):
                raise DancerInTraining(
                    "got new data while it was deleted", file=dancer, expected="the job to be run again"
                )
    return _report(dancer, found, registry, store, removed=remove)


def _find_all(
    dancer: str, storage_uri: str, store: Storage, registry: str, footage: Sequence[str], erasers: Sequence[Eraser]
) -> _Found:
    mlflow = find_in_mlflow(registry, dancer)
    data = find_data(store, dancer, footage, mlflow.videos)
    reports = find_reports(outbox_folder(storage_uri), dancer)
    external: dict[str, list[str]] = defaultdict(list)
    for eraser in erasers:
        for kind, items in eraser.find(dancer).items():
            external[kind] += items
    return _Found(mlflow, data, reports, external)


@contextmanager
def _outbox_locked(storage_uri: str, *, send: bool) -> Iterator[None]:
    """Lock the outbox, so that no fleet reports meanwhile; with `send`, first send its stored reports to MLflow.

    Raises DancerInTraining if a fleet of this storage is running, RegistryUnavailable if reports cannot be sent.
    """
    folder = outbox_folder(storage_uri)
    if not (folder / "lock").exists():
        yield
        return
    try:
        outbox = Outbox(folder)
        if send and len(outbox):
            outbox.close()
            if remaining := open_tracker(storage_uri).close(SEND_WITHIN_S):
                raise RegistryUnavailable(
                    "holds reports that MLflow did not receive", file=folder, got=f"{remaining} reports"
                )
            outbox = Outbox(folder)
    except BlockingIOError:
        expected = "train_many stopped: Ctrl-C, or ray job stop"
        raise DancerInTraining(
            "is in use: a fleet of this storage is in training", file=folder, expected=expected
        ) from None
    try:
        yield
    finally:
        outbox.close()


def _report(dancer: str, found: _Found, registry: str, store: Storage, *, removed: bool) -> Report:
    mlflow, data = found.mlflow, found.data
    kinds = {
        "versions": [f"{model_name(dancer)}, version {number}" for number in mlflow.versions],
        **found.external,
        **{kind: [f"{store.uri}/{file.name}" for file in files] for kind, files in data.to_remove.items()},
        "footage elsewhere": data.given,
        "rows in tables": [f"{store.uri}/{file}" for file in data.to_rewrite],
        "runs in MLflow": [run.info.run_id for run in mlflow.runs],
        "fleets in MLflow": [*mlflow.fleets],
        "reports to MLflow": [str(path) for path in found.reports],
    }
    kept = {uri: f"also a training video of {others}" for uri, others in data.kept.items()}
    for bundle in data.begun_with:
        for other in sorted(mlflow.begun_with.get(bundle, ())):
            kept[model_name(other)] = (
                "its training started from this dancer's weights: delete it too, or retrain it without them"
            )
    return Report(dancer, removed, {k: v for k, v in kinds.items() if v}, kept, _left_to_do(dancer, found, registry))


def _left_to_do(dancer: str, found: _Found, registry: str) -> list[str]:
    """What has to be done by hand."""
    lines = [f"{uri}: is outside of the storage; --footage {uri} removes it" for uri in found.data.outside]
    if found.mlflow.deleted and not registry.startswith("sqlite:"):
        ids = ",".join(found.mlflow.deleted)
        lines.append(f"on the MLflow server: mlflow gc --backend-store-uri ... --run-ids {ids}")
    return [
        *lines,
        f"fleet.toml: remove the target {dancer}, or the next train_many trains it again",
        f"nodes: remove $DANCEDIST_CACHE/targets/{dancer}-* and $DANCEDIST_CACHE/videos on each, if it outlives jobs",
        "render service: restart it; its replicas cache dancers in memory",
        "copies: backups, old versions in a versioned bucket, downloaded films, --output and --out of jobs",
        "renders of other dancers whose source video shows this person: not recorded, check by hand",
    ]
