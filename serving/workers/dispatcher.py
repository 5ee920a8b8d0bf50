"""Dispatcher: leases queued renders, runs attempts at them and records their outcome. It may be killed anytime."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

from ray.serve.handle import DeploymentHandle
from sqlalchemy.exc import SQLAlchemyError

from cluster.core import logs
from cluster.core.error_records import ErrorRecord, Unexpected, WorkerLost
from cluster.core.metrics import RENDERS_FAILURES, RENDERS_TAKEOVERS
from cluster.core.session import alive_nodes
from cluster.rendering.orchestrator import RenderFailed
from cluster.storage.base import StorageUnavailable
from cluster.tracking.mlflow_client import RegistryUnavailable
from dancedist.errors import DancedistError
from serving.db.engine import Database
from serving.db.leases import MAX_ATTEMPTS, Lease, LeaseLost
from serving.db.models import RenderRow
from serving.problems import to_problem
from serving.settings import Settings
from serving.workers.attempt import run_attempt
from serving.workers.context import WorkerContext

log = logging.getLogger("dancedist")
POLL_EVERY_S = 0.3
# While S3 or MLflow is unavailable, a render is attempted this many times before it fails.
UNAVAILABLE, UNAVAILABLE_ATTEMPTS = {StorageUnavailable.slug, RegistryUnavailable.slug}, 10


@dataclass(frozen=True)
class PeriodicTask:
    """A task that a dispatcher runs in a thread, in addition to its renders.

    It runs again at once if `run` returns True, otherwise after `every_s` seconds. An exception of `run` ends the
    dispatcher, which Serve replaces.
    """

    name: str
    run: Callable[[WorkerContext], bool]
    every_s: float


class Dispatcher:
    """Several dispatchers may share the records: a lease gives one of them a render exclusively."""

    def __init__(self, settings: Settings, replicas: DeploymentHandle, tasks: Sequence[PeriodicTask]) -> None:
        logs.configure()
        settings.require_shared(alive_nodes())
        self._settings = settings
        self._context = WorkerContext(settings, Database(settings.database), replicas)
        self._running: set[asyncio.Task[None]] = set()
        # Serve calls this constructor in the event loop that the deployment runs in.
        self._loops = {"dispatch": asyncio.ensure_future(self._dispatch())}
        self._loops |= {task.name: asyncio.ensure_future(self._repeat(task)) for task in tasks}

    def check_health(self) -> None:
        """Serve's health check: raises if a loop has ended, so that Serve replaces the dispatcher."""
        for name, loop in self._loops.items():
            if loop.done():
                loop.result()
                raise RuntimeError(f"a loop of the dispatcher has ended: {name}")

    async def _dispatch(self) -> None:
        while True:
            try:
                while len(self._running) < self._settings.renders_at_once:
                    acquired = await asyncio.to_thread(self._context.leases.acquire, self._settings.lease_s)
                    if acquired is None:
                        break
                    task = asyncio.create_task(self._work(*acquired))
                    self._running.add(task)
                    task.add_done_callback(self._running.discard)
            except SQLAlchemyError as error:
                log.warning("warning: the database does not answer: %s", str(error).splitlines()[0])
                await asyncio.sleep(2)
            await asyncio.sleep(POLL_EVERY_S)

    async def _work(self, lease: Lease, row: RenderRow) -> None:
        """One attempt at a render, for as long as its lease is held."""
        with logs.bound(render=lease.render_id, attempt=lease.attempt):
            await self._attempt(lease, row)

    async def _attempt(self, lease: Lease, row: RenderRow) -> None:
        log.info("render %s: attempt %d", lease.render_id, lease.attempt)
        if lease.attempt > 1:
            RENDERS_TAKEOVERS.inc()
        work = asyncio.create_task(run_attempt(self._context, lease, row))
        renewing = asyncio.create_task(self._renew_lease(lease))
        try:
            if lease.attempt > MAX_ATTEMPTS:
                lost = WorkerLost("every attempt was interrupted", expected=f"at most {MAX_ATTEMPTS} attempts")
                raise RenderFailed(ErrorRecord.from_error(lost, lease.render_id, lease.render_id))
            await asyncio.wait({work, renewing}, return_when=asyncio.FIRST_COMPLETED)
            # The renewing task ends only with an error.
            (work if work.done() else renewing).result()
        except LeaseLost:
            log.info("render %s: stopped: another dispatcher took it over, or it was cancelled", lease.render_id)
        except RenderFailed as error:
            await self._fail(lease, error.error)
        except DancedistError as error:
            await self._fail(lease, ErrorRecord.from_error(error, lease.render_id, lease.render_id))
        except SQLAlchemyError as error:
            # The failure cannot be recorded: the render is attempted again when the lease expires.
            log.warning("warning: render %s: the database does not answer: %s", lease.render_id, error)
        except Exception as error:
            log.exception("render %s failed", lease.render_id)
            bug = Unexpected("rendering failed", got=f"{type(error).__name__}: {error}")
            await self._fail(lease, ErrorRecord.from_error(bug, lease.render_id, lease.render_id))
        finally:
            for task in (work, renewing):
                task.cancel()
            await asyncio.gather(work, renewing, return_exceptions=True)

    async def _renew_lease(self, lease: Lease) -> None:
        """Renew the lease until cancelled. Raises LeaseLost, or SQLAlchemyError after three failures in a row."""
        remaining_tries = 3
        while True:
            await asyncio.sleep(self._settings.lease_s / 4)
            try:
                await asyncio.to_thread(self._context.leases.renew, lease, self._settings.lease_s)
                remaining_tries = 3
            except SQLAlchemyError:
                remaining_tries -= 1
                if not remaining_tries:
                    raise

    async def _fail(self, lease: Lease, error: ErrorRecord) -> None:
        if error.slug in UNAVAILABLE and lease.attempt < UNAVAILABLE_ATTEMPTS:
            # It is attempted again when the lease expires.
            log.warning("warning: render %s waits: %s [%s]", lease.render_id, error.message, error.slug)
            return
        log.warning("warning: render %s: %s [%s]", lease.render_id, error.message, error.slug)
        problem = to_problem(error).model_dump(exclude_none=True)
        with suppress(LeaseLost):
            await asyncio.to_thread(self._context.leases.fail, lease, problem)
            RENDERS_FAILURES.inc(1, {"slug": error.slug})
        await self._context.clear_previews(lease.render_id)

    async def _repeat(self, task: PeriodicTask) -> None:
        while True:
            while await asyncio.to_thread(task.run, self._context):
                pass
            await asyncio.sleep(task.every_s)
