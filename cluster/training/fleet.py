"""The whole job of a fleet: leave out what is done, find missing poses, train the rest, say what came of it."""

from __future__ import annotations

import csv
import io
import logging
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory

from cluster.core.error_records import Fault
from cluster.core.session import alive_nodes
from cluster.poses.extraction import run_extraction
from cluster.privacy.footage import note_videos, poses_name
from cluster.storage.base import open_storage
from cluster.tracking.registry import fetch_dancer
from cluster.tracking.tracker import open_tracking
from cluster.training.executor import Fleet, found_done
from cluster.training.fleet_file import FleetTarget
from cluster.training.policy import Rules
from cluster.training.status import Row, write_fleet
from cluster.training.target import TargetJob
from dancedist.bundle.bundle import load_bundle
from dancedist.recipe import Recipe, fingerprint

log = logging.getLogger("dancedist")
THREADS = 16


def train_fleet(
    targets: Sequence[FleetTarget],
    storage_uri: str,
    name: str,
    begin_with: str | None = None,
    attempts: int = 3,
    back_off_s: float = 30.0,
) -> list[Row]:
    """Train all targets; a row each, which NAME.json has too.

    Raises TrackingRefused, StorageUnavailable, and DancerUnknown or FileInvalid for what to begin with.
    """
    store = open_storage(storage_uri)
    tracking = open_tracking(storage_uri, alive_nodes())
    rows: dict[str, Row] = {}
    try:
        first = None if begin_with is None else _shared_first(begin_with, storage_uri)
        jobs = {t.name: _job(t, storage_uri, first) for t in targets}
        with ThreadPoolExecutor(THREADS) as pool:
            list(pool.map(lambda t: note_videos(store, t.name, t.videos), targets))
            found = zip(jobs, pool.map(found_done, jobs.values()), strict=True)
            rows = {name: row for name, row in found if row is not None}
        todo = [t for t in targets if t.name not in rows]
        log.info("%d targets, %d of them found done", len(targets), len(rows))
        if todo:
            faults = find_poses(todo, jobs)
            # A target without poses is tried without: its own film may be the reason, or what read it.
            several = [(t, _without(jobs[t.name], faults.get(t.name)), faults.get(t.name)) for t in todo]
            videos = {t.name: list(t.videos) for t in targets}
            run = tracking.begin_fleet(f"{storage_uri}/{name}", name, {"storage": storage_uri}, videos)
            fleet = Fleet(several, run, Rules(attempts=attempts, back_off_s=back_off_s))
            rows |= {row.target: row for row in fleet.run()}
            states = {row.state for row in rows.values()}
            run.finish("KILLED" if "stopped" in states else "FAILED" if "failed" in states else "FINISHED")
    finally:
        tracking.close()
    ordered = [rows[t.name] for t in targets]
    write_fleet(store, name, ordered)
    return ordered


def find_poses(targets: Sequence[FleetTarget], jobs: dict[str, TargetJob]) -> dict[str, Fault]:
    """Have the poses of all videos extracted that lack them, on all nodes; what went wrong, by target."""
    groups: dict[str, list[FleetTarget]] = defaultdict(list)
    for target in targets:
        groups[_poses_folder(jobs[target.name])].append(target)
    faults: dict[str, Fault] = {}
    for folder, several in groups.items():
        users = {
            poses_name(uri): (uri, [t.name for t in several if uri in t.videos]) for t in several for uri in t.videos
        }
        with TemporaryDirectory(prefix="dancedist-") as scratch:
            manifest = Path(scratch) / "videos.csv"
            manifest.write_text(_csv([(name, uri) for name, (uri, _) in users.items()]))
            _, found = run_extraction([str(manifest)], folder, several[0].recipe)
        faults |= {name: fault for fault in found if fault.name in users for name in users[fault.name][1]}
    return faults


def _job(target: FleetTarget, storage_uri: str, first: str | None) -> TargetJob:
    job = TargetJob(target.name, target.videos, target.recipe, target.need, storage_uri, first=first)
    folder = _poses_folder(job)
    poses = tuple(f"{folder}/poses/{poses_name(uri)}.parquet" for uri in target.videos)
    return TargetJob(target.name, target.videos, target.recipe, target.need, storage_uri, poses, first)


def _without(job: TargetJob, fault: Fault | None) -> TargetJob:
    return job if fault is None else TargetJob(job.name, job.videos, job.recipe, job.need, job.storage, (), job.first)


def _poses_folder(job: TargetJob) -> str:
    """Of all targets whose poses are found in the same way."""
    recipe: Recipe = job.recipe
    return f"{job.storage}/poses/{fingerprint(recipe.video, recipe.pose)}"


def _csv(rows: Sequence[tuple[str, str]]) -> str:
    text = io.StringIO()
    csv.writer(text).writerows([("name", "uri"), *rows])
    return text.getvalue()


def _shared_first(uri: str, storage_uri: str) -> str:
    """A dancer to begin with, where all nodes reach it. Raises DancerUnknown, FileInvalid."""
    with TemporaryDirectory(prefix="dancedist-") as scratch:
        folder = fetch_dancer(uri, Path(scratch) / "dancer", storage_uri)
        place = f"{storage_uri}/first/{load_bundle(folder).dancer.weights_sha256[:16]}"
        store = open_storage(place)
        for file in sorted(folder.iterdir()):
            store.upload(file, file.name)
    return place
