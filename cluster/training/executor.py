"""Many targets on one cluster: what the policy decides is done here, and told to MLflow and the terminal."""

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
from cluster.core.error_records import Fault
from cluster.core.metrics import FLEET_ATTEMPTS, FLEET_FAILURES, FLEET_TARGETS
from cluster.storage.base import StorageMissing, open_storage
from cluster.tracking.tracker import FleetRun, TargetRun
from cluster.training.fleet_file import FleetTarget
from cluster.training.placement import Node
from cluster.training.policy import PHASES, FleetPolicy, GiveUp, Rules, Start, Wait
from cluster.training.status import Row, read_row, write_row
from cluster.training.target import Failed, News, TargetJob, Trained, done, training_key
from dancedist.bundle.bundle import load_bundle

log = logging.getLogger("dancedist")
LOOK_EVERY_S, TELL_EVERY_S = 0.5, 10.0
# The driver has others to look after; a version that takes longer is told at the end.
WAIT_FOR_VERSION_S = 5.0
# A byte of film by and large; sizes only say which target is the largest.
_BYTES_A_FRAME = 5000


class Mailbox:
    """Where workers leave their news for the fleet's driver, who alone writes to MLflow."""

    def __init__(self) -> None:
        self._news: list[News] = []

    def hear(self, news: News) -> None:
        """Keep it until it is taken."""
        self._news.append(news)

    def take(self) -> list[News]:
        """All that came since the last time."""
        news, self._news = self._news, []
        return news


@dataclass
class _Going:
    """A target that is not done: its job, what poses could not be found, what was heard of it."""

    target: FleetTarget
    job: TargetJob
    fault: Fault | None
    run: TargetRun
    attempts: int = 0
    step: int = 0
    steps: int = 0
    last_fault: Fault | None = None
    row: Row | None = None

    def bound(self) -> AbstractContextManager[None]:
        """For what is logged of it."""
        return logs.bound(target=self.job.name, attempt=self.attempts)


def found_done(job: TargetJob) -> Row | None:
    """The row of a target that an earlier run has trained, measured and registered; by listing alone."""
    try:
        trained = done(job)
    except StorageMissing:
        return None
    row = None if trained is None else read_row(open_storage(job.storage), f"{job.name}/{trained.key}")
    return None if row is None or row.version is None else replace(row, state="found done")


class Fleet:
    """Trains `jobs`; a fault that a target begins with (no poses) is its first attempt."""

    def __init__(
        self,
        targets: Sequence[tuple[FleetTarget, TargetJob, Fault | None]],
        fleet_run: FleetRun,
        rules: Rules | None = None,
    ) -> None:
        self._going = {t.name: _Going(t, job, fault, _begun(fleet_run, t, job)) for t, job, fault in targets}
        self._policy = FleetPolicy({n: (g.job.need, _size(g.job)) for n, g in self._going.items()}, rules)
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        # Nothing that was told is lost with another node.
        self._mailbox = ray.remote(num_cpus=0, max_restarts=-1, scheduling_strategy=here)(Mailbox).remote()
        self._attempt = ray.remote(num_cpus=0, max_retries=0, scheduling_strategy=here)(_fit)
        self._running: dict[ray.ObjectRef, str] = {}
        self._told_s = 0.0

    def run(self) -> list[Row]:
        """Until every target is done or given up; a row each. KeyboardInterrupt leaves those that ran as stopped."""
        try:
            while not self._look():
                self._wait()
        except KeyboardInterrupt:
            self._stop()
        rows = [g.row or _row(g, "stopped", "not trained to its end: run it again") for g in self._going.values()]
        return [self._with_version(row) for row in rows]

    def _look(self) -> bool:
        """Do what the policy decides now; whether nothing is left to do."""
        now_s = time.monotonic()
        self._leave(self._policy.set_nodes(_nodes()))
        decisions = self._policy.decide(now_s)
        self._count()
        for decision in decisions:
            if isinstance(decision, Start):
                self._start(self._going[decision.name], decision, now_s)
            elif isinstance(decision, GiveUp):
                self._given_up(self._going[decision.name], decision.why)
        return not any(isinstance(decision, Wait) for decision in decisions)

    def _start(self, going: _Going, start: Start, now_s: float) -> None:
        going.attempts = start.attempt
        if going.fault is not None:
            fault, going.fault = going.fault, None
            self._failed(going, Failed(fault, "failed"))
            return
        FLEET_ATTEMPTS.inc()
        # Where the policy has it, so that a node that is lost ends what the policy thinks it does.
        going.job = replace(going.job, need=start.need, nodes=tuple(piece.node for piece in start.place))
        with going.bound():
            log.info("%s: attempt %d", going.job.name, start.attempt)
            ref = self._attempt.remote(going.job, self._mailbox, logs.ids())
        self._running[ref] = going.job.name

    def _wait(self) -> None:
        ready, _ = ray.wait([*self._running], timeout=LOOK_EVERY_S) if self._running else ([], None)
        if not self._running:
            time.sleep(LOOK_EVERY_S)
        self._hear()
        for ref in ready:
            going = self._going[self._running.pop(ref)]
            self._ended(going, _result(ref, going.job))
        self._tell()

    def _ended(self, going: _Going, result: Trained | Failed) -> None:
        if isinstance(result, Failed):
            self._failed(going, result)
            return
        going.row = self._registered(going, result)
        self._policy.done(going.job.name)

    def _failed(self, going: _Going, failed: Failed) -> None:
        going.last_fault = failed.fault
        FLEET_FAILURES.inc(1, {"cause": failed.cause})
        with going.bound():
            log.warning("warning: %s: %s [%s]", going.job.name, failed.fault.message, failed.fault.slug)
        share = 1 - going.step / going.steps if going.steps else 1.0
        size = _size(going.job) * share
        self._policy.failed(going.job.name, failed.cause, time.monotonic(), failed.fault.message, size)

    def _given_up(self, going: _Going, why: str) -> None:
        going.row = _row(going, "failed", why)
        going.run.finish("FAILED", why)

    def _registered(self, going: _Going, trained: Trained) -> Row:
        """Its bundle as a version in the registry, and a row of it beside what was trained."""
        job, consent = going.job, going.target.consent
        told = {} if consent is None else {k: str(v) for k, v in consent.model_dump().items()}
        with TemporaryDirectory(prefix="dancedist-") as scratch:
            folder, store = Path(scratch), open_storage(trained.bundle)
            for entry in store.list():
                store.download(entry.name, folder / entry.name)
            made = load_bundle(folder).dancer.provenance
            # Datasets stay in MLflow whatever is deleted: named by their content, not by a person.
            going.run.dataset(f"video-{made.video_sha256[:12]}", made.video_sha256, made.poses_fingerprint)
            measured = {f"held_out_{name}": value for name, value in trained.metrics.items() if math.isfinite(value)}
            going.run.metrics([{"step": trained.steps, **measured}])
            version = going.run.register(folder, trained.key, trained.metrics, told, WAIT_FOR_VERSION_S)
        going.run.finish("FINISHED")
        row = Row(
            job.name, "done", trained.steps, round(trained.seconds / 60, 2), trained.metrics.get("body_lpips"),
            version, going.attempts, bundle=trained.bundle, metrics=trained.metrics,
        )  # fmt: skip
        write_row(open_storage(job.storage), f"{job.name}/{trained.key}", row)
        return row

    def _with_version(self, row: Row) -> Row:
        """The row with the version that MLflow has made of it since."""
        version = self._going[row.target].run.version
        return row if row.state != "done" or row.version else replace(row, version=version)

    def _leave(self, lost: Iterable[str]) -> None:
        """End attempts whose nodes are gone; the policy starts them anew, from their last checkpoints."""
        names = {*lost}
        for ref in [ref for ref, name in self._running.items() if name in names]:
            FLEET_FAILURES.inc(1, {"cause": "node lost"})
            going = self._going[self._running.pop(ref)]
            with going.bound():
                log.warning("warning: %s: a node was lost", going.job.name)
            ray.cancel(ref, force=True)

    def _stop(self) -> None:
        log.warning("warning: stopping; the same command goes on from here")
        for ref in self._running:
            ray.cancel(ref, force=True)
        for going in self._going.values():
            if going.row is None:
                going.run.finish("KILLED", "stopped")

    def _hear(self) -> None:
        """Pass on what the workers tell."""
        try:
            several: list[News] = ray.get(self._mailbox.take.remote())
        except RayError:
            # It died and begins again: what it held is in the logs beside the bundles.
            return
        for news in several:
            going = self._going[news.name]
            going.step, going.steps = news.step, news.steps
            going.run.metrics(news.rows)
            for name, data in news.pictures.items():
                with TemporaryDirectory(prefix="dancedist-") as scratch:
                    path = Path(scratch) / name
                    path.write_bytes(data)
                    going.run.picture(path, f"pictures/{name}")

    def _count(self) -> None:
        """For Prometheus; always all of them, as Ray forgets a gauge that is silent for 20 s."""
        phases = [*self._policy.phases.values()]
        for phase in PHASES:
            FLEET_TARGETS.set(phases.count(phase), {"state": phase})

    def _tell(self) -> None:
        if time.monotonic() - self._told_s < TELL_EVERY_S:
            return
        self._told_s = time.monotonic()
        phases = [*self._policy.phases.values()]
        counts = ", ".join(f"{phases.count(p)} {p}" for p in dict.fromkeys(phases))
        going = [self._going[name] for name in self._running.values()]
        log.info("fleet: %s; %s", counts, ", ".join(map(_progress, going)) or "-")


def _progress(going: _Going) -> str:
    # Rank 0 measures what is trained before it lets go.
    measured = ", measuring" if going.steps and going.step == going.steps else ""
    return f"{going.job.name} {going.step}/{going.steps or '?'}{measured}"


def _fit(job: TargetJob, mailbox: ray.actor.ActorHandle, ids: logs.Ids) -> Trained | Failed:
    # torch and DeepSpeed, which the driver does without.
    from cluster.training.trainer import fit_target

    logs.begin()
    with logs.bound(**ids):
        return fit_target(job, mailbox)


def _result(ref: ray.ObjectRef, job: TargetJob) -> Trained | Failed:
    try:
        return ray.get(ref)  # type: ignore[no-any-return]
    except RayError as error:
        last = (str(error).strip().splitlines() or [type(error).__name__])[-1]
        return Failed(Fault(job.name, job.videos[0], "worker-lost", last), "node lost")


def _begun(fleet_run: FleetRun, target: FleetTarget, job: TargetJob) -> TargetRun:
    tags = {"videos": ", ".join(job.videos), **({} if job.first is None else {"first": job.first})}
    key = f"{job.storage}/{target.name}/{training_key(job)}"
    return fleet_run.begin_target(target.name, key, job.recipe.model_dump(mode="json"), tags)


def _row(going: _Going, state: str, why: str) -> Row:
    slug = going.last_fault.slug if going.last_fault else ""
    return Row(going.job.name, state, going.step or None, attempts=going.attempts, slug=slug, why=why)  # type: ignore[arg-type]


def _size(job: TargetJob) -> float:
    """Grows with the time that it takes: px that the generator makes in all stages."""
    entries = [open_storage(uri.rpartition("/")[0]).stat(uri.rpartition("/")[2]) for uri in job.videos]
    frames = sum(entry.size_bytes for entry in entries if entry is not None) / _BYTES_A_FRAME
    total = 0.0
    for stage in job.recipe.stages:
        recipe = job.recipe.at_stage(stage)
        steps = recipe.training.max_steps or recipe.training.epochs * frames / recipe.training.batch_pairs
        total += steps * recipe.training.batch_pairs * recipe.pixels
    return total


def _nodes() -> list[Node]:
    alive = [node for node in ray.nodes() if node["Alive"]]
    return [Node(n["NodeID"], n["Resources"].get("CPU", 0.0), int(n["Resources"].get("GPU", 0))) for n in alive]
