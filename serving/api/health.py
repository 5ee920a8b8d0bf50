"""Whether the service can work, and its figures for Prometheus."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Gauge, generate_latest
from sqlalchemy.exc import SQLAlchemyError

from cluster.core.metrics import RENDERS_OLDEST_WAITING, RENDERS_READY, RENDERS_RECORDS
from cluster.storage.base import open_storage
from dancedist.errors import DancedistError
from serving.db.models import ENDED, OPEN
from serving.db.records import Records
from serving.settings import Settings
from serving.workers.dancers import Dancers

_MARK = "renders/ready"
# What a render needs, each with what asks it: it answers in words, or raises.
Needs = dict[str, Callable[[], str]]


def needs(records: Records, dancers: Dancers, settings: Settings) -> Needs:
    """They raise StorageUnavailable, RegistryUnavailable, SQLAlchemyError."""

    def storage() -> str:
        store = open_storage(settings.storage)
        store.write(_MARK, b"")
        return store.uri

    return {
        "records": lambda: f"{records.count('queued')} renders wait",
        "storage": storage,
        "registry": lambda: f"{len(dancers.list())} versions",
    }


def check(needed: Needs) -> dict[str, str]:
    """Ask everything that a render needs. Raises what they do."""
    return {need: ask() for need, ask in needed.items()}


def watch(needed: Needs) -> None:
    """Tell Prometheus of each whether it answers."""
    for need, ask in needed.items():
        try:
            ask()
        except (DancedistError, SQLAlchemyError):
            RENDERS_READY.set(0, {"need": need})
        else:
            RENDERS_READY.set(1, {"need": need})


def metrics_text(records: Records) -> str:
    """In Prometheus' text format. What the replicas measure is on Ray's own pages."""
    registry = CollectorRegistry()
    states = Gauge(*RENDERS_RECORDS, registry=registry)
    for state in (*OPEN, *ENDED):
        states.labels(state).set(records.count(state))
    Gauge(*RENDERS_OLDEST_WAITING, registry=registry).set(records.oldest_waiting_s())
    return generate_latest(registry).decode()
