"""A person is forgotten: footage, poses, trainings, versions, runs, renders; and what cannot be reached is told."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

from cluster.core.session import ROOT
from cluster.core.settings import Shared
from cluster.privacy.inventory import Traces, find_traces, remove_traces
from cluster.privacy.mlflow_purge import (
    Known,
    collect,
    find_known,
    find_reports,
    remove_model,
    remove_reports,
    remove_runs,
)
from cluster.storage.base import NameInvalid, Storage, open_storage
from cluster.tracking.mlflow_client import RegistryUnavailable, tracking_uri
from cluster.tracking.outbox import Spool
from cluster.tracking.registry import model_name
from cluster.tracking.tracker import open_tracking, spool_folder
from cluster.training.fleet_file import NAME, NOT_NAMES
from dancedist.errors import DancedistError

SEND_WITHIN_S = 60.0


class DancerInTraining(DancedistError):
    """A person who is being learnt at this moment: what is removed now would come back."""

    slug = "dancer-in-training"


class RendersUnreached(DancedistError):
    """Renders' records that cannot be got at."""

    slug = "renders-unreached"


@dataclass
class Report:
    """What of a person was found, or removed if `removed`; what was kept and why; who has to do what besides."""

    dancer: str
    removed: bool
    found: dict[str, list[str]] = field(default_factory=dict)
    kept: dict[str, str] = field(default_factory=dict)
    left_to_do: list[str] = field(default_factory=list)

    def lines(self) -> Iterator[str]:
        """For people."""
        verb = "removed" if self.removed else "found"
        for kind, what in self.found.items():
            more = f" and {len(what) - 3} more" if len(what) > 3 else ""
            yield f"{verb}: {kind} ({len(what)}): {', '.join(what[:3])}{more}"
        yield from (f"kept: {what}: {why}" for what, why in self.kept.items())
        yield from (f"left to do: {line}" for line in self.left_to_do)
        if not self.found:
            yield f"nothing is known of {self.dancer}"

    def text(self) -> str:
        """As JSON."""
        return json.dumps(asdict(self), indent=2) + "\n"


@dataclass(frozen=True)
class _Everything:
    known: Known
    traces: Traces
    reports: list[Path]
    renders: dict[str, list[str]]

    def __bool__(self) -> bool:
        return bool(self.known or self.traces or self.reports or any(self.renders.values()))


def forget(
    dancer: str, storage_uri: str, footage: Sequence[str] = (), *, remove: bool, stopped: bool = False
) -> Report:
    """Find all of a dancer, and with `remove` remove it; broken off anywhere it goes on when it is called again.

    `footage`: her films outside of the storage that are to go too; `stopped`: that she is in training is not so, though
    MLflow says it, as it does after a kill.

    Raises NameInvalid, DancerInTraining, RendersUnreached, RegistryUnavailable, TrackingRefused, StorageUnavailable.
    """
    if not re.fullmatch(NAME, dancer) or dancer.lower() in NOT_NAMES:
        raise NameInvalid("is no dancer's name", file=dancer, expected="a target's name of fleet.toml")
    registry, store = tracking_uri(storage_uri), open_storage(storage_uri)
    with _nobody_reporting(storage_uri, send=remove):
        found = _look(dancer, storage_uri, store, registry, footage)
        if found.known.running and not stopped:
            runs = ", ".join(run.info.run_id for run in found.known.running)
            expected = "its train_many stopped (Ctrl-C, ray job stop), or --stopped where that was killed"
            raise DancerInTraining(
                "is in training, as MLflow knows", file=dancer, expected=expected, got=f"runs {runs}"
            )
        if remove and found:
            # From here on nobody can ask for a film.
            remove_model(registry, dancer)
            renders_of(dancer, storage_uri, store, remove=True)
            remove_traces(store, found.traces)
            remove_runs(registry, dancer, found.known)
            remove_reports(found.reports)
            if registry.startswith("sqlite:") and found.known.deleted:
                collect(registry, found.known.deleted)
            if _look(dancer, storage_uri, store, registry, footage):
                raise DancerInTraining("came back while it was removed", file=dancer, expected="to be run again")
    return _report(dancer, found, registry, store, removed=remove)


def _look(dancer: str, storage_uri: str, store: Storage, registry: str, footage: Sequence[str]) -> _Everything:
    known = find_known(registry, dancer)
    traces = find_traces(store, dancer, footage, known.videos)
    reports = find_reports(spool_folder(storage_uri), dancer)
    return _Everything(known, traces, reports, renders_of(dancer, storage_uri, store, remove=False))


@contextmanager
def _nobody_reporting(storage_uri: str, *, send: bool) -> Iterator[None]:
    """While no fleet's driver of this folder or machine is at work; what one had left to tell MLflow is sent first."""
    folder = spool_folder(storage_uri)
    if not (folder / "lock").exists():
        yield
        return
    try:
        spool = Spool(folder)
        if send and len(spool):
            spool.close()
            if left := open_tracking(storage_uri).close(SEND_WITHIN_S):
                raise RegistryUnavailable("reports wait to be sent to MLflow", file=folder, got=f"{left} of them")
            spool = Spool(folder)
    except BlockingIOError:
        expected = "its train_many stopped: Ctrl-C, or ray job stop"
        raise DancerInTraining("a fleet of this storage is in training", file=folder, expected=expected) from None
    try:
        yield
    finally:
        spool.close()


def renders_of(dancer: str, storage_uri: str, store: Storage, *, remove: bool) -> dict[str, list[str]]:
    """What the render service has of her. Its own program looks, and removes: the records are its own.

    Raises RendersUnreached, StorageUnavailable.
    """
    bucket = storage_uri.startswith("s3://")
    if not Shared().database:
        if bucket and next(store.list("renders/"), None) is not None:
            expected = "DANCEDIST_DATABASE, as the render service has it"
            raise RendersUnreached("there are renders in the storage", file=store.uri, expected=expected)
        if bucket or not (Path(store.uri) / "renders.db").exists():
            return {}
    command = [sys.executable, "-m", "serving.ops.forget", dancer, *(["--remove"] if remove else [])]
    env = {**os.environ, "DANCEDIST_STORAGE": storage_uri}
    done = subprocess.run(command, env=env, cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        got = (done.stderr.strip().splitlines() or ["nothing"])[-1]
        raise RendersUnreached("the records of renders do not answer", file=dancer, got=got)
    told: dict[str, list[str]] = json.loads(done.stdout)
    return told


def _report(dancer: str, found: _Everything, registry: str, store: Storage, *, removed: bool) -> Report:
    known, traces = found.known, found.traces
    kinds = {
        "versions": [f"{model_name(dancer)}, version {number}" for number in known.versions],
        **found.renders,
        **{kind: [f"{store.uri}/{file.name}" for file in files] for kind, files in traces.removes.items()},
        "footage elsewhere": traces.given,
        "rows in tables": [f"{store.uri}/{file}" for file in traces.rewrites],
        "runs in MLflow": [run.info.run_id for run in known.runs],
        "fleets in MLflow": [*known.fleets],
        "reports to MLflow": [str(path) for path in found.reports],
    }
    kept = {uri: f"{others} is learnt from it too" for uri, others in traces.kept.items()}
    for bundle in traces.begun_with:
        for other in sorted(known.begun_with.get(bundle, ())):
            kept[model_name(other)] = "its training began with this dancer's weights: forget it too, or train it anew"
    return Report(dancer, removed, {k: v for k, v in kinds.items() if v}, kept, _left_to_do(dancer, found, registry))


def _left_to_do(dancer: str, found: _Everything, registry: str) -> list[str]:
    """What no program can reach, or not this one."""
    lines = [f"{uri}: lies outside of the storage; --footage {uri} removes it" for uri in found.traces.elsewhere]
    if found.known.deleted and not registry.startswith("sqlite:"):
        ids = ",".join(found.known.deleted)
        lines.append(f"where the MLflow server is: mlflow gc --backend-store-uri ... --run-ids {ids}")
    return [
        *lines,
        f"fleet.toml: take out the target {dancer}, or the next train_many learns it again",
        f"nodes: $DANCEDIST_CACHE/targets/{dancer}-* and $DANCEDIST_CACHE/videos on each, if it is kept between jobs",
        "render service: restart it, its replicas keep dancers in memory",
        "copies: backups, earlier versions in a versioned bucket, films that were fetched, --output and --out of jobs",
        "renders of others' dancers whose source shows this person: nobody knows which",
    ]
