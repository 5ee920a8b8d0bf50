from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from dancedist.video.prefetch import ReadAhead


def test_items_come_in_order_and_a_few_are_taken_ahead() -> None:
    taken: list[int] = []
    fifth = threading.Event()

    def items() -> Iterator[int]:
        for i in range(9):
            taken.append(i)
            if i == 4:
                fifth.set()
            yield i

    ahead = iter(ReadAhead(items(), depth=4))
    assert next(ahead) == 0
    assert fifth.wait(5)
    time.sleep(0.05)
    assert taken == [0, 1, 2, 3, 4]
    assert list(ahead) == [*range(1, 9)]


def test_taking_and_using_overlap_and_the_time_is_told() -> None:
    def slow() -> Iterator[int]:
        for i in range(5):
            time.sleep(0.02)
            yield i

    ahead = ReadAhead(slow())
    started = time.perf_counter()
    for _ in ahead:
        time.sleep(0.02)
    assert ahead.seconds >= 0.1
    assert time.perf_counter() - started < 2 * 0.1


def test_what_goes_wrong_is_raised_where_it_comes_in() -> None:
    def items() -> Iterator[int]:
        yield 1
        raise OSError("gone")

    ahead = iter(ReadAhead(items()))
    assert next(ahead) == 1
    with pytest.raises(OSError, match="gone"):
        next(ahead)


def test_it_can_be_left_early() -> None:
    before = threading.active_count()
    for item in ReadAhead(iter(range(1000))):
        if item == 2:
            break
    deadline = time.monotonic() + 5
    while threading.active_count() > before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert threading.active_count() == before
