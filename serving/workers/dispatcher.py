"""Works on renders that were asked for: claims them, has them made, records what comes of them. It may die anywhere."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress

from ray.serve.handle import DeploymentHandle
from sqlalchemy.exc import SQLAlchemyError

from cluster.core import logs
from cluster.core.error_records import Fault, Unexpected, WorkerLost
from cluster.core.metrics import RENDERS_FAILURES, RENDERS_TAKEOVERS
from cluster.core.session import alive_nodes
from cluster.rendering.orchestrator import Failed
from cluster.storage.base import StorageUnavailable
from cluster.tracking.mlflow_client import RegistryUnavailable
from dancedist.errors import DancedistError
from serving.api.errors import problem_of
from serving.api.health import needs, watch
from serving.db.engine import Database
from serving.db.leases import MAX_ATTEMPTS, Claim, Superseded
from serving.db.models import RenderRow
from serving.ops.retention import sweep
from serving.ops.webhooks import call_next
from serving.settings import Settings
from serving.workers.attempt import film
from serving.workers.context import Studio
from serving.workers.dancers import Dancers

log = logging.getLogger("dancedist")
LOOK_EVERY_S, SWEEP_EVERY_S, CALL_EVERY_S, WATCH_EVERY_S = 0.3, 600.0, 1.0, 10.0
# S3 or MLflow may be away: a render waits for them, so many attempts long.
AWAY, AWAY_ATTEMPTS = {StorageUnavailable.slug, RegistryUnavailable.slug}, 10


class Director:
    """Several may work on the same records: a render is one's alone as long as its lease lasts."""

    def __init__(self, settings: Settings, renderer: DeploymentHandle) -> None:
        logs.begin()
        settings.require_shared(alive_nodes())
        self._settings = settings
        self._studio = Studio(settings, Database(settings.database), renderer)
        dancers = Dancers(settings.storage, without_consent=settings.without_consent)
        self._needs = needs(self._studio.records, dancers, settings)
        self._running: set[asyncio.Task[None]] = set()
        # Serve makes a deployment in the event loop that it runs in.
        loops = (self._direct(), self._sweep(), self._call_back(), self._watch())
        self._loops = [asyncio.ensure_future(loop) for loop in loops]

    def check_health(self) -> None:
        """Asked by Serve, which replaces a director that has stopped."""
        for loop in self._loops:
            if loop.done():
                loop.result()
                raise RuntimeError("the director has stopped")

    async def _direct(self) -> None:
        while True:
            try:
                while len(self._running) < self._settings.renders_at_once:
                    claimed = await asyncio.to_thread(self._studio.claims.claim, self._settings.lease_s)
                    if claimed is None:
                        break
                    task = asyncio.create_task(self._work(*claimed))
                    self._running.add(task)
                    task.add_done_callback(self._running.discard)
            except SQLAlchemyError as error:
                log.warning("warning: the database does not answer: %s", str(error).splitlines()[0])
                await asyncio.sleep(2)
            await asyncio.sleep(LOOK_EVERY_S)

    async def _work(self, claim: Claim, row: RenderRow) -> None:
        """One attempt at a render, for as long as it is ours."""
        with logs.bound(render=claim.render_id, attempt=claim.attempt):
            await self._attempt(claim, row)

    async def _attempt(self, claim: Claim, row: RenderRow) -> None:
        log.info("render %s: attempt %d", claim.render_id, claim.attempt)
        if claim.attempt > 1:
            RENDERS_TAKEOVERS.inc()
        work = asyncio.create_task(film(self._studio, claim, row))
        keeping = asyncio.create_task(self._keep(claim))
        try:
            if claim.attempt > MAX_ATTEMPTS:
                lost = WorkerLost("every attempt was broken off", expected=f"{MAX_ATTEMPTS} at most")
                raise Failed(Fault.of(lost, claim.render_id, claim.render_id))
            await asyncio.wait({work, keeping}, return_when=asyncio.FIRST_COMPLETED)
            # The lease is lost where that task ends.
            (work if work.done() else keeping).result()
        except Superseded:
            log.info("render %s: another has it, or it was cancelled", claim.render_id)
        except Failed as error:
            await self._fail(claim, error.fault)
        except DancedistError as error:
            await self._fail(claim, Fault.of(error, claim.render_id, claim.render_id))
        except SQLAlchemyError as error:
            # Nothing can be noted: it is taken up again when the lease is over.
            log.warning("warning: render %s: the database does not answer: %s", claim.render_id, error)
        except Exception as error:
            log.exception("render %s failed", claim.render_id)
            bug = Unexpected("rendering failed", got=f"{type(error).__name__}: {error}")
            await self._fail(claim, Fault.of(bug, claim.render_id, claim.render_id))
        finally:
            for task in (work, keeping):
                task.cancel()
            await asyncio.gather(work, keeping, return_exceptions=True)

    async def _keep(self, claim: Claim) -> None:
        """Renew the lease. Raises Superseded, and SQLAlchemyError where the database is away for too long."""
        left = 3
        while True:
            await asyncio.sleep(self._settings.lease_s / 4)
            try:
                await asyncio.to_thread(self._studio.claims.renew, claim, self._settings.lease_s)
                left = 3
            except SQLAlchemyError:
                left -= 1
                if not left:
                    raise

    async def _fail(self, claim: Claim, fault: Fault) -> None:
        if fault.slug in AWAY and claim.attempt < AWAY_ATTEMPTS:
            # It is taken up again when the lease is over.
            log.warning("warning: render %s waits: %s [%s]", claim.render_id, fault.message, fault.slug)
            return
        log.warning("warning: render %s: %s [%s]", claim.render_id, fault.message, fault.slug)
        problem = problem_of(fault).model_dump(exclude_none=True)
        with suppress(Superseded):
            await asyncio.to_thread(self._studio.claims.fail, claim, problem)
            RENDERS_FAILURES.inc(1, {"slug": fault.slug})
        await self._studio.ended(claim.render_id)

    async def _sweep(self) -> None:
        while True:
            try:
                await asyncio.to_thread(sweep, self._studio.records, self._settings)
            except (SQLAlchemyError, DancedistError) as error:
                log.warning("warning: what is old could not be removed: %s", error)
            await asyncio.sleep(SWEEP_EVERY_S)

    async def _watch(self) -> None:
        while True:
            await asyncio.to_thread(watch, self._needs)
            await asyncio.sleep(WATCH_EVERY_S)

    async def _call_back(self) -> None:
        secret = self._settings.webhook_secret
        while secret is not None:
            try:
                while await asyncio.to_thread(call_next, self._studio.claims, secret.get_secret_value()):
                    pass
            except SQLAlchemyError as error:
                log.warning("warning: the database does not answer: %s", str(error).splitlines()[0])
            await asyncio.sleep(CALL_EVERY_S)
        await asyncio.Event().wait()
