"""Train a fleet: skip finished targets, extract missing poses, train the rest, write the results."""

from __future__ import annotations

import csv
import io
import logging
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory

from cluster.core.error_records import ErrorRecord
from cluster.core.session import alive_nodes
from cluster.poses.extraction import run_extraction
from cluster.poses.names import poses_name
from cluster.storage.open import open_storage
from cluster.tracking.registry import fetch_dancer
from cluster.tracking.tracker import open_tracker
from cluster.training.executor import FleetExecutor, find_completed
from cluster.training.fleet_file import FleetTarget
from cluster.training.policy import Rules
from cluster.training.status import TargetStatus, write_fleet
from cluster.training.target import TargetJob
from cluster.training.target_videos import note_videos
from dancedist.bundle.bundle import load_bundle
from dancedist.recipe.fingerprint import fingerprint
from dancedist.recipe.schema import Recipe

log = logging.getLogger("dancedist")
THREADS = 16


def train_fleet(
    targets: Sequence[FleetTarget],
    storage_uri: str,
    name: str,
    begin_with: str | None = None,
    attempts: int = 3,
    back_off_s: float = 30.0,
) -> list[TargetStatus]:
    """Train all targets and return a status each, in their order; NAME.json in the storage lists them too.

    `begin_with`: a dancer (models:/... or a bundle) for a warm start. `back_off_s`: seconds before the second attempt.
    Raises TrackingRefused, StorageUnavailable, and DancerUnknown or FileInvalid for `begin_with`.
    """
    store = open_storage(storage_uri)
    tracker = open_tracker(storage_uri, alive_nodes())
    rows: dict[str, TargetStatus] = {}
    try:
        first = None if begin_with is None else _share_first(begin_with, storage_uri)
        jobs = {t.name: _job(t, storage_uri, first) for t in targets}
        with ThreadPoolExecutor(THREADS) as pool:
            list(pool.map(lambda t: note_videos(store, t.name, t.videos), targets))
            completed = zip(jobs, pool.map(find_completed, jobs.values()), strict=True)
            rows = {name: row for name, row in completed if row is not None}
        todo = [t for t in targets if t.name not in rows]
        log.info("%d targets, %d of them found done", len(targets), len(rows))
        if todo:
            errors = extract_missing_poses(todo, jobs)
            # A target whose extraction failed is tried without poses: the video or the extraction may be at fault.
            attempted = [(t, _without_poses(jobs[t.name], errors.get(t.name)), errors.get(t.name)) for t in todo]
            videos = {t.name: list(t.videos) for t in targets}
            run = tracker.begin_fleet(f"{storage_uri}/{name}", name, {"storage": storage_uri}, videos)
            fleet = FleetExecutor(attempted, run, Rules(attempts=attempts, back_off_s=back_off_s))
            rows |= {row.target: row for row in fleet.run()}
            states = {row.state for row in rows.values()}
            run.finish("KILLED" if "stopped" in states else "FAILED" if "failed" in states else "FINISHED")
    finally:
        tracker.close()
    ordered = [rows[t.name] for t in targets]
    write_fleet(store, name, ordered)
    return ordered


def extract_missing_poses(targets: Sequence[FleetTarget], jobs: dict[str, TargetJob]) -> dict[str, ErrorRecord]:
    """Extract the poses that are missing, on all nodes; return the errors by target name."""
    groups: dict[str, list[FleetTarget]] = defaultdict(list)
    for target in targets:
        groups[_poses_folder(jobs[target.name])].append(target)
    errors: dict[str, ErrorRecord] = {}
    for folder, group in groups.items():
        users = {poses_name(uri): (uri, [t.name for t in group if uri in t.videos]) for t in group for uri in t.videos}
        with TemporaryDirectory(prefix="dancedist-") as scratch:
            manifest = Path(scratch) / "videos.csv"
            manifest.write_text(_csv([(name, uri) for name, (uri, _) in users.items()]))
            _, video_errors = run_extraction([str(manifest)], folder, group[0].recipe)
        errors |= {name: error for error in video_errors if error.name in users for name in users[error.name][1]}
    return errors


def _job(target: FleetTarget, storage_uri: str, first: str | None) -> TargetJob:
    job = TargetJob(target.name, target.videos, target.recipe, target.resources, storage_uri, first=first)
    folder = _poses_folder(job)
    poses = tuple(f"{folder}/poses/{poses_name(uri)}.parquet" for uri in target.videos)
    return TargetJob(target.name, target.videos, target.recipe, target.resources, storage_uri, poses, first)


def _without_poses(job: TargetJob, error: ErrorRecord | None) -> TargetJob:
    return (
        job if error is None else TargetJob(job.name, job.videos, job.recipe, job.resources, job.storage, (), job.first)
    )


def _poses_folder(job: TargetJob) -> str:
    """URI of the poses folder; targets with the same video and pose recipes share it."""
    recipe: Recipe = job.recipe
    return f"{job.storage}/poses/{fingerprint(recipe.video, recipe.pose)}"


def _csv(rows: Sequence[tuple[str, str]]) -> str:
    text = io.StringIO()
    csv.writer(text).writerows([("name", "uri"), *rows])
    return text.getvalue()


def _share_first(uri: str, storage_uri: str) -> str:
    """Copy the dancer for a warm start into the storage, for all nodes. Raises DancerUnknown, FileInvalid."""
    with TemporaryDirectory(prefix="dancedist-") as scratch:
        folder = fetch_dancer(uri, Path(scratch) / "dancer", storage_uri)
        bundle_uri = f"{storage_uri}/first/{load_bundle(folder).dancer.weights_sha256[:16]}"
        store = open_storage(bundle_uri)
        for file in sorted(folder.iterdir()):
            store.upload(file, file.name)
    return bundle_uri
