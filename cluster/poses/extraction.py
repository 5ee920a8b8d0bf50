"""The whole job: find videos, leave out what is done, extract the rest, and say what came of it."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field

from cluster.core.error_records import Fault
from cluster.poses.graph import extract
from cluster.poses.inputs import Listed, find_videos
from cluster.poses.normalise import normalise, target_of
from cluster.poses.progress import JobProgress, shown
from cluster.poses.results import Summary, remove_stale, write_errors, write_stats, write_summary
from cluster.poses.segments import Job, Joined
from cluster.storage.base import StorageUnavailable, open_storage
from dancedist.pose.detect import means_of
from dancedist.recipe import Recipe
from dancedist.retarget.stats import RetargetStats

log = logging.getLogger("dancedist")
# Enough to tell a store that is gone from one video's that is.
ASK_AGAIN_S = 5.0


@dataclass
class Plan:
    """Videos by name, which of them are done, and what is wrong with inputs and videos."""

    videos: list[Listed]
    done: set[str]
    faults: list[Fault] = field(default_factory=list)

    @property
    def todo(self) -> list[Listed]:
        """Videos that are not done."""
        return [v for v in self.videos if v.name not in self.done]


def plan(job: Job, inputs: Sequence[str]) -> Plan:
    """What there is to do; nothing is read but listings."""
    store = open_storage(job.output)
    videos, faults = find_videos(inputs)
    records = {entry.name for entry in store.list("work/done/")}
    poses = {entry.name for entry in store.list("poses/")}
    done = {v.name for v in videos if f"poses/{v.name}.parquet" in poses and job.done_name(v) in records}
    return Plan(videos, done, faults)


def run_extraction(
    inputs: Sequence[str],
    output: str,
    recipe: Recipe,
    *,
    workers: int = 0,
    strict: bool = False,
    retarget_to: str | None = None,
) -> tuple[Summary, list[Fault]]:
    """Extract poses of `inputs` into `output`; a video that cannot be used is a fault.

    With `strict` the first fault ends the job. Raises DancedistError where the job as a whole cannot go on: no
    place for the results, workers that do not start, no such target.
    """
    started = time.monotonic()
    target = target_of(retarget_to) if retarget_to else None
    means = means_of(recipe.pose, "gpu" if recipe.extraction.worker_gpus else "cpu")
    job = Job(output, recipe.video, recipe.pose, recipe.extraction, means)
    work = plan(job, inputs)
    log.info("%d videos, %d of them found done", len(work.videos) + len(work.faults), len(work.done))
    summary = Summary(videos=len(work.videos) + len(work.faults), found_done=len(work.done))
    progress = JobProgress(sum(v.size_bytes for v in work.todo))
    if work.todo and not (strict and work.faults):
        with shown(progress):
            summary.seconds["join"] = _extract(job, work, workers, strict, progress)
    store = open_storage(output)
    remove_stale(store, {v.name for v in work.todo}, work.faults)
    write_stats(store, [job.done_name(v) for v in work.videos if v.name in work.done], recipe.retarget, summary)
    if target and not (strict and work.faults):
        _normalise(job, work, target, recipe, summary)
    write_errors(store, work.faults)
    summary.segments_computed, summary.segments_found_done = progress.segments, progress.found_segments
    summary.done, summary.stopped_early = len(work.done), strict and bool(work.faults)
    summary.seconds = {**progress.seconds, **summary.seconds, "wall": time.monotonic() - started}
    write_summary(store, summary, work.faults)
    return summary, work.faults


def _extract(job: Job, work: Plan, workers: int, strict: bool, progress: JobProgress) -> float:
    """Until all is done, or the first fault with `strict`; returns the seconds spent in joining."""
    join_s = 0.0
    with closing(extract(job, work.todo, workers or job.extraction.workers, progress.tell)) as answers:
        for found in answers:
            if isinstance(found, Joined):
                work.done.add(found.name)
                join_s += found.join_s
                continue
            _raise_if_fatal(found, job)
            work.faults.append(found)
            if strict:
                break
    return join_s


def _raise_if_fatal(fault: Fault, job: Job) -> None:
    """Without a place for the results there is no going on; without a video there is."""
    if fault.slug == "output-unavailable":
        raise StorageUnavailable(fault.message)
    if fault.slug == StorageUnavailable.slug:
        open_storage(job.output, retry_for_s=ASK_AGAIN_S).stat("summary.json")


def _normalise(job: Job, work: Plan, target: tuple[str, RetargetStats], recipe: Recipe, summary: Summary) -> None:
    known = {(w["name"], w["slug"]) for w in summary.warnings}
    for found in normalise(
        job.output, {v.name: v.uri for v in work.videos if v.name in work.done}, target, recipe.retarget
    ):
        if isinstance(found, Fault):
            work.faults.append(found)
            continue
        name, notices = found
        summary.warnings += [{"name": name, **asdict(n)} for n in notices if (name, n.slug) not in known]
