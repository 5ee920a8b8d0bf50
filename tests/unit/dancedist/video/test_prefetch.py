from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from dancedist.video.prefetch import Prefetcher


def test_items_are_in_order_and_prefetched_up_to_the_depth() -> None:
    fetched: list[int] = []
    fifth = threading.Event()

    def items() -> Iterator[int]:
        for i in range(9):
            fetched.append(i)
            if i == 4:
                fifth.set()
            yield i

    prefetched = iter(Prefetcher(items(), depth=4))
    assert next(prefetched) == 0
    assert fifth.wait(5)
    time.sleep(0.05)
    assert fetched == [0, 1, 2, 3, 4]
    assert list(prefetched) == [*range(1, 9)]


def test_fetching_overlaps_with_use_and_its_time_is_measured() -> None:
    def slow() -> Iterator[int]:
        for i in range(5):
            time.sleep(0.02)
            yield i

    prefetched = Prefetcher(slow())
    started = time.perf_counter()
    for _ in prefetched:
        time.sleep(0.02)
    assert prefetched.seconds >= 0.1
    assert time.perf_counter() - started < 2 * 0.1


def test_an_exception_is_raised_at_its_item() -> None:
    def items() -> Iterator[int]:
        yield 1
        raise OSError("gone")

    prefetched = iter(Prefetcher(items()))
    assert next(prefetched) == 1
    with pytest.raises(OSError, match="gone"):
        next(prefetched)


def test_iteration_can_stop_early() -> None:
    before = threading.active_count()
    for item in Prefetcher(iter(range(1000))):
        if item == 2:
            break
    deadline = time.monotonic() + 5
    while threading.active_count() > before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert threading.active_count() == before
