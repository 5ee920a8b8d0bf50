"""Decode frames ahead of their use in a thread, so that decoding and inference overlap."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, TypeVar

DEPTH_FRAMES = 8
_END = object()
T = TypeVar("T")


class Prefetcher(Generic[T]):
    """Iterate over `items` while a thread fetches the next ones; `seconds` is the time spent fetching."""

    def __init__(self, items: Iterable[T], depth: int = DEPTH_FRAMES) -> None:
        self._items, self._depth = iter(items), depth
        self.seconds = 0.0

    def __iter__(self) -> Iterator[T]:
        with ThreadPoolExecutor(1, "read-ahead") as pool:
            pending = deque(pool.submit(self._fetch) for _ in range(self._depth))
            while (item := pending.popleft().result()) is not _END:
                pending.append(pool.submit(self._fetch))
                yield item  # type: ignore[misc]  # not _END

    def _fetch(self) -> T | object:
        started = time.perf_counter()
        try:
            return next(self._items, _END)
        finally:
            self.seconds += time.perf_counter() - started
