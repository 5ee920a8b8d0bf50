"""Run a fleet on one cluster: carry out the policy's decisions, report to MLflow and to the terminal."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from cluster.core import logs
from cluster.core.error_records import ErrorRecord
from cluster.core.metrics import FLEET_ATTEMPTS, FLEET_FAILURES, FLEET_TARGETS
from cluster.storage.base import StorageMissing
from cluster.storage.open import open_storage
from cluster.tracking.tracker import FleetRun, TargetRun
from cluster.training.fleet_file import FleetTarget
from cluster.training.placement import Node
from cluster.training.policy import PHASES, FleetPolicy, GiveUp, Rules, Start, Wait
from cluster.training.status import TargetStatus, read_status, write_status
from cluster.training.target import (
    ProgressEvent,
    ProgressQueue,
    TargetJob,
    TrainingFailure,
    TrainingResult,
    find_result,
    training_key,
)
from dancedist.bundle.bundle import load_bundle

log = logging.getLogger("dancedist")
POLL_EVERY_S, LOG_EVERY_S = 0.5, 10.0
# The driver has other targets to serve. A version that takes longer is added to the status at the end.
WAIT_FOR_VERSION_S = 5.0
# A rough average: sizes only rank the targets.
_BYTES_PER_FRAME = 5000


@dataclass
class _ActiveTarget:
    """A target that is not done: its job, its pose extraction error if any, its progress so far."""

    target: FleetTarget
    job: TargetJob
    poses_error: ErrorRecord | None
    run: TargetRun
    attempts: int = 0
    step: int = 0
    steps: int = 0
    last_error: ErrorRecord | None = None
    status: TargetStatus | None = None

    def bound(self) -> AbstractContextManager[None]:
        """Bind target and attempt to the log lines about this target."""
        return logs.bound(target=self.job.name, attempt=self.attempts)


def find_completed(job: TargetJob) -> TargetStatus | None:
    """Status of a target that an earlier run trained, measured and registered, else None. Reads no video."""
    try:
        result = find_result(job)
    except StorageMissing:
        return None
    status = None if result is None else read_status(open_storage(job.storage), f"{job.name}/{result.key}")
    return None if status is None or status.version is None else replace(status, state="found done")


class FleetExecutor:
    """Trains `targets`. A target that comes with an error (its poses are missing) fails its first attempt with it."""

    def __init__(
        self,
        targets: Sequence[tuple[FleetTarget, TargetJob, ErrorRecord | None]],
        fleet_run: FleetRun,
        rules: Rules | None = None,
    ) -> None:
        self._active = {
            t.name: _ActiveTarget(t, job, poses_error, _begin_run(fleet_run, t, job)) for t, job, poses_error in targets
        }
        self._policy = FleetPolicy({name: (a.job.resources, _size(a.job)) for name, a in self._active.items()}, rules)
        driver_node = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        # On the driver's node, so that the loss of another node loses no event.
        self._progress_queue = ray.remote(num_cpus=0, max_restarts=-1, scheduling_strategy=driver_node)(
            ProgressQueue
        ).remote()
        self._attempt = ray.remote(num_cpus=0, max_retries=0, scheduling_strategy=driver_node)(_fit)
        self._running: dict[ray.ObjectRef, str] = {}
        self._logged_s = 0.0

    def run(self) -> list[TargetStatus]:
        """Train until every target is done or given up; return a status each, in order of `targets`.

        On KeyboardInterrupt, targets that are not finished get the state "stopped".
        """
        try:
            while not self._decide():
                self._wait()
        except KeyboardInterrupt:
            self._stop()
        statuses = [
            active.status or _status_of(active, "stopped", "interrupted; run the same command again to resume")
            for active in self._active.values()
        ]
        return [self._with_version(status) for status in statuses]

    def _decide(self) -> bool:
        """Carry out the policy's decisions; return whether nothing is left to do."""
        now_s = time.monotonic()
        self._cancel_lost(self._policy.set_nodes(_nodes()))
        decisions = self._policy.decide(now_s)
        self._set_gauges()
        for decision in decisions:
            if isinstance(decision, Start):
                self._start_attempt(self._active[decision.name], decision, now_s)
            elif isinstance(decision, GiveUp):
                self._on_give_up(self._active[decision.name], decision.why)
        return not any(isinstance(decision, Wait) for decision in decisions)

    def _start_attempt(self, active: _ActiveTarget, start: Start, now_s: float) -> None:
        active.attempts = start.attempt
        if active.poses_error is not None:
            poses_error, active.poses_error = active.poses_error, None
            self._on_failure(active, TrainingFailure(poses_error, "failed"))
            return
        FLEET_ATTEMPTS.inc()
        # Pin the workers to the nodes that the policy reserved: a lost node then ends the attempts that it assumes.
        active.job = replace(
            active.job, resources=start.resources, nodes=tuple(bundle.node for bundle in start.placement)
        )
        with active.bound():
            log.info("%s: attempt %d", active.job.name, start.attempt)
            ref = self._attempt.remote(active.job, self._progress_queue, logs.ids())
        self._running[ref] = active.job.name

    def _wait(self) -> None:
        ready, _ = ray.wait([*self._running], timeout=POLL_EVERY_S) if self._running else ([], None)
        if not self._running:
            time.sleep(POLL_EVERY_S)
        self._forward_events()
        for ref in ready:
            active = self._active[self._running.pop(ref)]
            self._on_end(active, _result(ref, active.job))
        self._log_progress()

    def _on_end(self, active: _ActiveTarget, result: TrainingResult | TrainingFailure) -> None:
        if isinstance(result, TrainingFailure):
            self._on_failure(active, result)
            return
        active.status = self._register(active, result)
        self._policy.done(active.job.name)

    def _on_failure(self, active: _ActiveTarget, failure: TrainingFailure) -> None:
        active.last_error = failure.error
        FLEET_FAILURES.inc(1, {"cause": failure.cause})
        with active.bound():
            log.warning("warning: %s: %s [%s]", active.job.name, failure.error.message, failure.error.slug)
        size = _size(active.job) * (1 - active.step / active.steps if active.steps else 1.0)
        self._policy.failed(active.job.name, failure.cause, time.monotonic(), failure.error.message, size)

    def _on_give_up(self, active: _ActiveTarget, why: str) -> None:
        active.status = _status_of(active, "failed", why)
        active.run.finish("FAILED", why)

    def _register(self, active: _ActiveTarget, trained: TrainingResult) -> TargetStatus:
        """Register the bundle as a version and store the status next to the training's output."""
        job, consent = active.job, active.target.consent
        consent_tags = {} if consent is None else {k: str(v) for k, v in consent.model_dump().items()}
        with TemporaryDirectory(prefix="dancedist-") as scratch:
            folder, store = Path(scratch), open_storage(trained.bundle)
            for entry in store.list():
                store.download(entry.name, folder / entry.name)
            origin = load_bundle(folder).dancer.provenance
            # MLflow never deletes datasets, so they are named by content, not by person.
            active.run.dataset(f"video-{origin.video_sha256[:12]}", origin.video_sha256, origin.poses_fingerprint)
            measured = {f"held_out_{name}": value for name, value in trained.metrics.items() if math.isfinite(value)}
            active.run.metrics([{"step": trained.steps, **measured}])
            version = active.run.register(folder, trained.key, trained.metrics, consent_tags, WAIT_FOR_VERSION_S)
        active.run.finish("FINISHED")
        status = TargetStatus(
            job.name, "done", trained.steps, round(trained.seconds / 60, 2), trained.metrics.get("body_lpips"),
            version, active.attempts, bundle=trained.bundle, metrics=trained.metrics,
        )  # fmt: skip
        write_status(open_storage(job.storage), f"{job.name}/{trained.key}", status)
        return status

    def _with_version(self, status: TargetStatus) -> TargetStatus:
        """Return the status with the version that MLflow has created in the meantime."""
        version = self._active[status.target].run.version
        return status if status.state != "done" or status.version else replace(status, version=version)

    def _cancel_lost(self, lost: Iterable[str]) -> None:
        """Cancel attempts whose nodes are gone. The policy restarts them; they resume from their last checkpoints."""
        names = {*lost}
        for ref in [ref for ref, name in self._running.items() if name in names]:
            FLEET_FAILURES.inc(1, {"cause": "node lost"})
            active = self._active[self._running.pop(ref)]
            with active.bound():
                log.warning("warning: %s: a node was lost", active.job.name)
            ray.cancel(ref, force=True)

    def _stop(self) -> None:
        log.warning("warning: stopping; run the same command again to resume")
        for ref in self._running:
            ray.cancel(ref, force=True)
        for active in self._active.values():
            if active.status is None:
                active.run.finish("KILLED", "stopped")

    def _forward_events(self) -> None:
        """Forward the workers' progress events to MLflow."""
        try:
            events: list[ProgressEvent] = ray.get(self._progress_queue.drain.remote())
        except RayError:
            # The queue died and restarts empty; the lost rows are also in log.jsonl next to each bundle.
            return
        for event in events:
            active = self._active[event.name]
            active.step, active.steps = event.step, event.steps
            active.run.metrics(event.rows)
            for name, data in event.pictures.items():
                with TemporaryDirectory(prefix="dancedist-") as scratch:
                    path = Path(scratch) / name
                    path.write_bytes(data)
                    active.run.artifact(path, f"pictures/{name}")

    def _set_gauges(self) -> None:
        """Set every gauge for Prometheus each time: Ray drops a gauge that is not set for 20 s."""
        phases = [*self._policy.phases.values()]
        for phase in PHASES:
            FLEET_TARGETS.set(phases.count(phase), {"state": phase})

    def _log_progress(self) -> None:
        if time.monotonic() - self._logged_s < LOG_EVERY_S:
            return
        self._logged_s = time.monotonic()
        phases = [*self._policy.phases.values()]
        counts = ", ".join(f"{phases.count(p)} {p}" for p in dict.fromkeys(phases))
        active = [self._active[name] for name in self._running.values()]
        log.info("fleet: %s; %s", counts, ", ".join(map(_progress_of, active)) or "-")


def _progress_of(active: _ActiveTarget) -> str:
    # After the last step rank 0 still measures the dancer.
    measured = ", measuring" if active.steps and active.step == active.steps else ""
    return f"{active.job.name} {active.step}/{active.steps or '?'}{measured}"


def _fit(job: TargetJob, progress_queue: ray.actor.ActorHandle, ids: logs.Ids) -> TrainingResult | TrainingFailure:
    # Imports torch and DeepSpeed, which the driver does not need.
    from cluster.training.trainer import fit_target

    logs.configure()
    with logs.bound(**ids):
        return fit_target(job, progress_queue)


def _result(ref: ray.ObjectRef, job: TargetJob) -> TrainingResult | TrainingFailure:
    try:
        return ray.get(ref)  # type: ignore[no-any-return]
    except RayError as error:
        last = (str(error).strip().splitlines() or [type(error).__name__])[-1]
        return TrainingFailure(ErrorRecord(job.name, job.videos[0], "worker-lost", last), "node lost")


def _begin_run(fleet_run: FleetRun, target: FleetTarget, job: TargetJob) -> TargetRun:
    tags = {"videos": ", ".join(job.videos), **({} if job.first is None else {"first": job.first})}
    key = f"{job.storage}/{target.name}/{training_key(job)}"
    return fleet_run.begin_target(target.name, key, job.recipe.model_dump(mode="json"), tags)


def _status_of(active: _ActiveTarget, state: str, why: str) -> TargetStatus:
    slug = active.last_error.slug if active.last_error else ""
    return TargetStatus(active.job.name, state, active.step or None, attempts=active.attempts, slug=slug, why=why)  # type: ignore[arg-type]


def _size(job: TargetJob) -> float:
    """Estimate of the training time: px that the generator outputs in all stages."""
    entries = [open_storage(uri.rpartition("/")[0]).stat(uri.rpartition("/")[2]) for uri in job.videos]
    frames = sum(entry.size_bytes for entry in entries if entry is not None) / _BYTES_PER_FRAME
    total = 0.0
    for stage in job.recipe.stages:
        recipe = job.recipe.at_stage(stage)
        steps = recipe.training.max_steps or recipe.training.epochs * frames / recipe.training.batch_pairs
        total += steps * recipe.training.batch_pairs * recipe.pixels
    return total


def _nodes() -> list[Node]:
    alive = [node for node in ray.nodes() if node["Alive"]]
    return [Node(n["NodeID"], n["Resources"].get("CPU", 0.0), int(n["Resources"].get("GPU", 0))) for n in alive]
