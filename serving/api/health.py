"""Readiness checks, and the service's metrics for Prometheus."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Gauge, generate_latest
from sqlalchemy.exc import SQLAlchemyError

from cluster.core.metrics import RENDERS_OLDEST_WAITING, RENDERS_READY, RENDERS_RECORDS
from cluster.storage.open import open_storage
from dancedist.errors import DancedistError
from serving.db.models import ENDED, OPEN
from serving.db.records import Records
from serving.settings import Settings
from serving.workers.dancers import Dancers

_PROBE_NAME = "renders/ready"
# Each dependency of a render with its check, which returns a short text or raises.
ReadinessChecks = dict[str, Callable[[], str]]


def readiness_checks(records: Records, dancers: Dancers, settings: Settings) -> ReadinessChecks:
    """The checks of records, storage and registry.

    They raise StorageUnavailable, RegistryUnavailable, SQLAlchemyError.
    """

    def storage() -> str:
        store = open_storage(settings.storage)
        store.write(_PROBE_NAME, b"")
        return store.uri

    return {
        "records": lambda: f"{records.count('queued')} renders wait",
        "storage": storage,
        "registry": lambda: f"{len(dancers.list())} versions",
    }


def require_ready(checks: ReadinessChecks) -> dict[str, str]:
    """Run all checks and return their texts. Raises what the checks raise."""
    return {need: check() for need, check in checks.items()}


def set_gauges(checks: ReadinessChecks) -> None:
    """Set the readiness gauge of each dependency: 1 if its check passes, 0 if it fails."""
    for need, check in checks.items():
        try:
            check()
        except (DancedistError, SQLAlchemyError):
            RENDERS_READY.set(0, {"need": need})
        else:
            RENDERS_READY.set(1, {"need": need})


def metrics_text(records: Records) -> str:
    """Metrics of the records, in Prometheus' text format. Ray's own metrics endpoints have those of the replicas."""
    registry = CollectorRegistry()
    states = Gauge(*RENDERS_RECORDS, registry=registry)
    for state in (*OPEN, *ENDED):
        states.labels(state).set(records.count(state))
    Gauge(*RENDERS_OLDEST_WAITING, registry=registry).set(records.oldest_waiting_s())
    return generate_latest(registry).decode()
