"""WorkerPool on a local Ray: items outlive their workers."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import ray

from cluster.core.error_records import Unexpected, WorkerLost, WorkersUnfit
from cluster.poses.pool import WorkerPool
from dancedist.errors import WeightsMissing
from tests.support.own_ray import own_ray

pytestmark = pytest.mark.cluster


@pytest.fixture(scope="module", autouse=True)
def one_machine() -> Iterator[None]:
    with own_ray(4, {"PYTHONPATH": str(Path(__file__).parents[4])}):
        yield


class Doubler:
    """Doubles items, or fails as their names say; leaves a file in the folder for every attempt."""

    def __init__(self, folder: str) -> None:
        self.folder = Path(folder)

    def ready(self) -> None:
        (self.folder / f"worker-{os.getpid()}").touch()

    def do(self, item: str) -> str:
        earlier = len(list(self.folder.glob(f"{item}-*")))
        (self.folder / f"{item}-{earlier}").touch()
        kind = item.split("_")[0]
        if kind == "poison" or (kind == "once" and earlier == 0):
            os._exit(1)
        if kind == "bug" or (kind == "flaky" and earlier == 0):
            raise ValueError("a bug")
        if kind == "hang" and earlier == 0:
            time.sleep(1000)
        time.sleep(0.02)
        return item * 2


def pool(folder: Path, kind: Any = Doubler, **settings: Any) -> WorkerPool[str]:
    actor = ray.remote(num_cpus=0.5, max_restarts=0)(kind)
    settings = {"pool_size": lambda: 3, "attempts": 3, "timeout_s": 30, **settings}
    return WorkerPool(start=lambda: actor.remote(str(folder)), **settings)


def attempts(folder: Path, item: str) -> int:
    return len(list(folder.glob(f"{item}-*")))


def test_every_item_is_done_once(tmp_path: Path) -> None:
    items = [f"item_{i}" for i in range(50)]
    results = [a for a in pool(tmp_path).run(items) if a is not None]
    assert sorted(results) == sorted((i, i * 2) for i in items)
    assert all(attempts(tmp_path, item) == 1 for item in items)
    assert 1 <= len(list(tmp_path.glob("worker-*"))) <= 3


def test_only_items_that_always_fail_are_given_up(tmp_path: Path) -> None:
    items = [
        "poison_a",
        *(f"item_{i}" for i in range(12)),
        "once_a",
        "bug_a",
        "flaky_a",
        *(f"more_{i}" for i in range(9)),
    ]
    results = dict(a for a in pool(tmp_path).run(items) if a is not None)
    assert set(results) == set(items)
    assert isinstance(results["poison_a"], WorkerLost)
    assert isinstance(results["bug_a"], Unexpected)
    assert "a bug" in str(results["bug_a"])
    assert [results[i] for i in items if i not in ("poison_a", "bug_a")] == [
        i * 2 for i in items if i not in ("poison_a", "bug_a")
    ]
    assert (attempts(tmp_path, "bug_a"), attempts(tmp_path, "once_a")) == (3, 2)
    # A result may be lost with its worker, and the crash be attributed to the previous item.
    assert 3 <= attempts(tmp_path, "poison_a") <= 6


def test_a_silent_worker_is_replaced(tmp_path: Path) -> None:
    results = dict(a for a in pool(tmp_path, timeout_s=3).run(["hang_a", "item_a"]) if a is not None)
    assert results == {"hang_a": "hang_ahang_a", "item_a": "item_aitem_a"}


class Unfit(Doubler):
    def ready(self) -> None:
        raise WeightsMissing("no such file", file="net.onnx")


class Stillborn(Doubler):
    def ready(self) -> None:
        os._exit(1)


def test_workers_that_never_start_end_the_job(tmp_path: Path) -> None:
    with pytest.raises(WeightsMissing, match="no such file"):
        list(pool(tmp_path, Unfit).run(["a"]))
    with pytest.raises(WorkersUnfit, match="die before they are ready"):
        list(pool(tmp_path, Stillborn).run(["a"]))


def test_results_do_not_wait_for_a_slow_source(tmp_path: Path) -> None:
    done: list[str] = []

    def slow() -> Iterator[str]:
        yield "item_a"
        deadline = time.monotonic() + 30
        while not done and time.monotonic() < deadline:
            time.sleep(0.05)
        done.append("the source continues")
        yield "item_b"

    for result in pool(tmp_path).run(slow()):
        if result is not None:
            done.append(result[0])
    assert done == ["item_a", "the source continues", "item_b"]


def test_errors_of_the_source_are_raised(tmp_path: Path) -> None:
    def broken() -> Iterator[str]:
        yield "item_a"
        raise OSError("the source is gone")

    with pytest.raises(OSError, match="the source is gone"):
        list(pool(tmp_path).run(broken()))


def test_an_empty_source_starts_no_worker() -> None:
    def never() -> Any:
        raise AssertionError("a worker was started")

    assert [a for a in WorkerPool[str](never, lambda: 3, attempts=3, timeout_s=30).run([]) if a is not None] == []


def test_workers_are_stopped_at_the_end(tmp_path: Path) -> None:
    assert [a for a in pool(tmp_path).run(["item_a"]) if a is not None] == [("item_a", "item_aitem_a")]
    deadline = time.monotonic() + 20
    while ray.available_resources().get("CPU", 0) < 4:
        assert time.monotonic() < deadline, "workers are left behind"
        time.sleep(0.1)


def test_closing_after_ray_has_shut_down_starts_no_new_ray(tmp_path: Path) -> None:
    # Must be the last test: it ends this module's Ray.
    running = pool(tmp_path).run(f"item_{i}" for i in range(50))
    while next(running) is None:
        pass
    ray.shutdown()
    running.close()  # type: ignore[attr-defined]
    assert not ray.is_initialized()
