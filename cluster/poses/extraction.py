"""The extraction job: list videos, skip those that are done, extract the others, write tables and a summary."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field

from cluster.core.error_records import ErrorRecord
from cluster.poses.graph import extract
from cluster.poses.inputs import ListedVideo, find_videos
from cluster.poses.normalise import normalise, read_target
from cluster.poses.progress import JobProgress, show_progress
from cluster.poses.results import Summary, remove_stale, write_errors, write_stats, write_summary
from cluster.poses.segments import ExtractionJob, JoinResult
from cluster.storage.base import StorageUnavailable
from cluster.storage.open import open_storage
from dancedist.pose.detect import inference_spec
from dancedist.recipe.schema import Recipe
from dancedist.retarget.stats import RetargetStats

log = logging.getLogger("dancedist")
# Long enough to tell whether the output storage is unavailable, or only the storage of one video.
RECHECK_BUDGET_S = 5.0


@dataclass
class ExtractionPlan:
    """Videos sorted by name, the names of those that are done, and the errors of inputs and videos."""

    videos: list[ListedVideo]
    done: set[str]
    failures: list[ErrorRecord] = field(default_factory=list)

    @property
    def todo(self) -> list[ListedVideo]:
        """Videos that are not done yet."""
        return [v for v in self.videos if v.name not in self.done]


def plan_extraction(job: ExtractionJob, inputs: Sequence[str]) -> ExtractionPlan:
    """Plan a job from listings alone, without reading a video. Raises StorageUnavailable."""
    store = open_storage(job.output)
    videos, failures = find_videos(inputs)
    records = {entry.name for entry in store.list("work/done/")}
    poses = {entry.name for entry in store.list("poses/")}
    done = {v.name for v in videos if f"poses/{v.name}.parquet" in poses and job.done_name(v) in records}
    return ExtractionPlan(videos, done, failures)


def run_extraction(
    inputs: Sequence[str],
    output: str,
    recipe: Recipe,
    *,
    workers: int = 0,
    strict: bool = False,
    retarget_to: str | None = None,
) -> tuple[Summary, list[ErrorRecord]]:
    """Extract poses of `inputs` into `output`; videos that fail are returned as error records.

    With `strict` the first error ends the job. Raises DancedistError if the job as a whole cannot continue: the output
    storage is unavailable, workers do not start, the target of `retarget_to` does not exist.
    """
    started = time.monotonic()
    target = read_target(retarget_to) if retarget_to else None
    spec = inference_spec(recipe.pose, "gpu" if recipe.extraction.worker_gpus else "cpu")
    job = ExtractionJob(output, recipe.video, recipe.pose, recipe.extraction, spec)
    plan = plan_extraction(job, inputs)
    log.info("%d videos, %d of them found done", len(plan.videos) + len(plan.failures), len(plan.done))
    summary = Summary(videos=len(plan.videos) + len(plan.failures), found_done=len(plan.done))
    progress = JobProgress(sum(v.size_bytes for v in plan.todo))
    if plan.todo and not (strict and plan.failures):
        with show_progress(progress):
            summary.seconds["join"] = _extract(job, plan, workers, strict, progress)
    store = open_storage(output)
    remove_stale(store, {v.name for v in plan.todo}, plan.failures)
    write_stats(store, [job.done_name(v) for v in plan.videos if v.name in plan.done], recipe.retarget, summary)
    if target and not (strict and plan.failures):
        _normalise(job, plan, target, recipe, summary)
    write_errors(store, plan.failures)
    summary.segments_computed, summary.segments_found_done = progress.segments, progress.found_segments
    summary.done, summary.stopped_early = len(plan.done), strict and bool(plan.failures)
    summary.seconds = {**progress.seconds, **summary.seconds, "wall": time.monotonic() - started}
    write_summary(store, summary, plan.failures)
    return summary, plan.failures


def _extract(job: ExtractionJob, plan: ExtractionPlan, workers: int, strict: bool, progress: JobProgress) -> float:
    """Extract all videos, with `strict` until the first error; returns the seconds spent joining segments."""
    join_s = 0.0
    with closing(extract(job, plan.todo, workers or job.extraction.workers, progress.update)) as results:
        for result in results:
            if isinstance(result, JoinResult):
                plan.done.add(result.name)
                join_s += result.join_s
                continue
            _raise_if_fatal(result, job)
            plan.failures.append(result)
            if strict:
                break
    return join_s


def _raise_if_fatal(failure: ErrorRecord, job: ExtractionJob) -> None:
    """Raise if the output storage is unavailable. An error of one video's storage does not end the job."""
    if failure.slug == "output-unavailable":
        raise StorageUnavailable(failure.message)
    if failure.slug == StorageUnavailable.slug:
        open_storage(job.output, retry_budget_s=RECHECK_BUDGET_S).stat("summary.json")


def _normalise(
    job: ExtractionJob, plan: ExtractionPlan, target: tuple[str, RetargetStats], recipe: Recipe, summary: Summary
) -> None:
    """Retarget the done videos; adds errors to the plan and new warnings to the summary."""
    known = {(w["name"], w["slug"]) for w in summary.warnings}
    for result in normalise(
        job.output, {v.name: v.uri for v in plan.videos if v.name in plan.done}, target, recipe.retarget
    ):
        if isinstance(result, ErrorRecord):
            plan.failures.append(result)
            continue
        name, notices = result
        summary.warnings += [{"name": name, **asdict(n)} for n in notices if (name, n.slug) not in known]
