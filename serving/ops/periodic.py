"""Periodic tasks that every dispatcher runs in addition to its renders."""

from __future__ import annotations

import logging

from sqlalchemy.exc import SQLAlchemyError

from dancedist.errors import DancedistError
from serving.api.health import readiness_checks, set_gauges
from serving.ops.retention import sweep
from serving.ops.webhooks import call_next_webhook
from serving.settings import Settings
from serving.workers.context import WorkerContext
from serving.workers.dancers import Dancers
from serving.workers.dispatcher import PeriodicTask

log = logging.getLogger("dancedist")
SWEEP_EVERY_S, CALL_EVERY_S, WATCH_EVERY_S = 600.0, 1.0, 10.0


def periodic_tasks(settings: Settings) -> list[PeriodicTask]:
    """The tasks: retention, webhooks (if there is a secret to sign them with), and the readiness gauges."""
    webhooks = PeriodicTask("webhooks", call_webhook, CALL_EVERY_S)
    return [
        PeriodicTask("retention", remove_old, SWEEP_EVERY_S),
        *([] if settings.webhook_secret is None else [webhooks]),
        PeriodicTask("readiness", watch_readiness, WATCH_EVERY_S),
    ]


def remove_old(context: WorkerContext) -> bool:
    """Remove all renders that are past their retention time."""
    try:
        sweep(context.records, context.settings)
    except (SQLAlchemyError, DancedistError) as error:
        log.warning("warning: renders past their retention time were not removed: %s", error)
    return False


def call_webhook(context: WorkerContext) -> bool:
    """Call one webhook that is due. Returns whether there was one: more may be due."""
    secret = context.settings.webhook_secret
    assert secret is not None
    try:
        return call_next_webhook(context.leases, secret.get_secret_value())
    except SQLAlchemyError as error:
        log.warning("warning: the database does not answer: %s", str(error).splitlines()[0])
        return False


def watch_readiness(context: WorkerContext) -> bool:
    """Update the readiness gauges of records, storage and registry."""
    settings = context.settings
    dancers = Dancers(settings.storage, without_consent=settings.without_consent)
    set_gauges(readiness_checks(context.records, dancers, settings))
    return False
