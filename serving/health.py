"""Whether the service can work, and its figures for Prometheus."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Gauge, generate_latest

from serving.dancers import Dancers
from serving.records import Records
from serving.service import Service
from serving.tables import ENDED, OPEN

_MARK = "renders/ready"


def check(service: Service) -> dict[str, str]:
    """Ask everything that a render needs. Raises StorageUnavailable, RegistryUnavailable, SQLAlchemyError."""
    waiting = service.records.count("queued")
    service.store.write(_MARK, b"")
    dancers: Dancers = service.dancers
    found = len(dancers.list())
    return {"records": f"{waiting} renders wait", "storage": service.store.uri, "registry": f"{found} versions"}


def metrics_text(records: Records) -> str:
    """In Prometheus' text format. What the replicas measure is on Ray's own pages."""
    registry = CollectorRegistry()
    states = Gauge("dancedist_renders", "Renders by state", ["state"], registry=registry)
    for state in (*OPEN, *ENDED):
        states.labels(state).set(records.count(state))
    oldest = Gauge("dancedist_renders_oldest_waiting_seconds", "Since the oldest in the queue came", registry=registry)
    oldest.set(records.oldest_waiting_s())
    return generate_latest(registry).decode()
