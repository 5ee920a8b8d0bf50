from __future__ import annotations

import pickle
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy.exc import OperationalError

from cluster.core.metrics import RENDERS_READY
from cluster.storage.base import StorageUnavailable
from serving.db.engine import Database
from serving.db.leases import Leases
from serving.db.records import Records
from serving.ops import periodic
from serving.ops.periodic import call_webhook, periodic_tasks, remove_old, watch_readiness
from serving.settings import Settings

UNAVAILABLE = OperationalError("SELECT", {}, Exception("is away\nand more"))


@pytest.fixture
def context(database: Database, database_url: str, tmp_path: Path) -> Any:
    """The part of a dispatcher's context that its tasks use."""
    settings = Settings(storage=str(tmp_path / "runs"), database=database_url, webhook_secret="x")
    return SimpleNamespace(settings=settings, records=Records(database), leases=Leases(database))


def _raising(error: Exception) -> object:
    def raises(*_: object) -> None:
        raise error

    return raises


def test_tasks_have_intervals_and_webhooks_need_a_secret(tmp_path: Path) -> None:
    settings = Settings(storage=str(tmp_path))
    assert [(task.name, task.every_s) for task in periodic_tasks(settings)] == [("retention", 600), ("readiness", 10)]
    tasks = periodic_tasks(settings.model_copy(update={"webhook_secret": "x"}))
    assert [(task.name, task.every_s) for task in tasks] == [("retention", 600), ("webhooks", 1), ("readiness", 10)]
    # Serve sends them to the dispatcher's process.
    assert pickle.loads(pickle.dumps(tasks)) == tasks


@pytest.mark.parametrize("error", [UNAVAILABLE, StorageUnavailable("does not answer")])
def test_a_failed_removal_is_logged(
    context: Any, error: Exception, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    assert remove_old(context) is False and not caplog.messages
    monkeypatch.setattr(periodic, "sweep", _raising(error))
    assert remove_old(context) is False
    assert caplog.messages == [f"warning: renders past their retention time were not removed: {error}"]


def test_webhooks_are_called_until_none_is_due(
    context: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    assert call_webhook(context) is False
    monkeypatch.setattr(periodic, "call_next_webhook", lambda leases, secret: (leases, secret) == (context.leases, "x"))
    assert call_webhook(context) is True and not caplog.messages
    monkeypatch.setattr(periodic, "call_next_webhook", _raising(UNAVAILABLE))
    assert call_webhook(context) is False
    assert caplog.messages == ["warning: the database does not answer: (builtins.Exception) is away"]


def test_the_gauge_of_an_unreachable_dependency_is_zero(context: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    gauges: dict[str, float] = {}
    monkeypatch.setattr(RENDERS_READY, "set", lambda value, tags: gauges.update({tags["need"]: value}))
    assert watch_readiness(context) is False
    assert gauges == {"records": 1, "storage": 1, "registry": 1}
    monkeypatch.setattr(context.records, "count", _raising(UNAVAILABLE))
    assert watch_readiness(context) is False
    assert gauges == {"records": 0, "storage": 1, "registry": 1}
