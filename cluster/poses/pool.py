"""Pool of Ray actors that work on one item at a time; items outlive their actors.

Ray Data's own actor pool hands out blocks of rows: scheduling a block of one row takes longer than a short segment, and
if a worker dies, the row that caused it is unknown. docs/decisions/0004 has the measurements.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import ray
from ray.exceptions import RayError, RayTaskError

from cluster.core.error_records import Unexpected, WorkerLost, WorkersUnfit
from dancedist.errors import DancedistError

log = logging.getLogger("dancedist")

T = TypeVar("T")
# Items per worker: the current one and the next.
IN_FLIGHT = 2
POLL_S = 0.5
ADD_WORKERS_EVERY_S = 5.0
# After this many deaths in a row before a worker is ready, the pool gives up.
MAX_FAILED_STARTS = 5
_END = object()


@dataclass(eq=False)
class _Worker(Generic[T]):
    """An actor and its assigned (result, item) pairs, oldest first. `last_seen_s`: time of its last sign of life."""

    actor: Any
    ready: ray.ObjectRef | None
    assigned: deque[tuple[ray.ObjectRef, T]] = field(default_factory=deque)
    last_seen_s: float = field(default_factory=time.monotonic)


class WorkerPool(Generic[T]):
    """Keep `pool_size()` workers; `start` creates an actor with the methods `ready` and `do(item)`.

    An item whose worker dies, raises or does not answer for `timeout_s` is tried again, `attempts` times in all.
    """

    def __init__(
        self, start: Callable[[], Any], pool_size: Callable[[], int], *, attempts: int, timeout_s: float
    ) -> None:
        self._start, self._pool_size, self._attempts, self._timeout_s = start, pool_size, attempts, timeout_s
        self._workers: list[_Worker[T]] = []
        self._queued: deque[T] = deque()
        self._tries: dict[T, int] = {}
        self._failed_starts = 0
        self._add_at_s = 0.0

    def run(self, items: Iterable[T]) -> Iterator[tuple[T, Any] | None]:
        """Yield each item with the result of `do`, or WorkerLost or Unexpected, in the order of completion.

        Also yields None regularly, so that the caller never blocks for long. Raises WorkersUnfit if no worker starts,
        and any error of `items`.
        """
        feed = _Feed(items)
        try:
            while not (feed.ended and not self._queued and not any(w.assigned for w in self._workers)):
                if not self._queued and (item := feed.take()) is not None:
                    self._queued.append(item)
                # Start workers lazily: if everything is done, none are needed, and splitting gets the cores first.
                if self._queued:
                    self._add_workers()
                self._assign(feed)
                yield from self._collect_results()
                yield None
        finally:
            feed.stop()
            # A traceback can keep this generator alive until Ray has shut down; ray.kill would then start a new Ray.
            for worker in self._workers if ray.is_initialized() else ():
                ray.kill(worker.actor)

    def _add_workers(self) -> None:
        if time.monotonic() < self._add_at_s:
            return
        self._add_at_s = time.monotonic() + ADD_WORKERS_EVERY_S
        for _ in range(self._pool_size() - len(self._workers)):
            actor = self._start()
            self._workers.append(_Worker(actor, actor.ready.remote()))

    def _assign(self, feed: _Feed[T]) -> None:
        """Assign items to the least busy workers first, so that the last items are spread."""
        for depth in range(IN_FLIGHT):
            for worker in self._workers:
                if worker.ready is None and len(worker.assigned) == depth:
                    item = self._queued.popleft() if self._queued else feed.take()
                    if item is None:
                        return
                    if not worker.assigned:
                        worker.last_seen_s = time.monotonic()
                    worker.assigned.append((worker.actor.do.remote(item), item))

    def _collect_results(self) -> Iterator[tuple[T, Any]]:
        waiting = {w.ready or w.assigned[0][0]: w for w in self._workers if w.ready or w.assigned}
        if not waiting:
            time.sleep(POLL_S / 10)
            return
        ready, _ = ray.wait([*waiting], num_returns=1, timeout=POLL_S)
        if ready:
            ready, _ = ray.wait([*waiting], num_returns=len(waiting), timeout=0)
        for ref in ready:
            worker = waiting[ref]
            worker.last_seen_s = time.monotonic()
            yield from self._on_ready(worker) if worker.ready else self._on_result(worker)
        for worker in self._workers:
            if worker.assigned and time.monotonic() - worker.last_seen_s > self._timeout_s:
                log.warning("replacing a worker that did not answer for %.0f s", self._timeout_s)
                ray.kill(worker.actor)

    def _on_ready(self, worker: _Worker[T]) -> Iterator[tuple[T, Any]]:
        try:
            ray.get(worker.ready)
            worker.ready, self._failed_starts = None, 0
        except RayTaskError as error:
            if isinstance(error.cause, DancedistError):
                raise error.cause from None
            raise WorkersUnfit("a worker does not start", got=_last_line(error)) from None
        except RayError as error:
            self._discard(worker)
            self._failed_starts += 1
            if self._failed_starts >= MAX_FAILED_STARTS:
                raise WorkersUnfit("workers die before they are ready", got=_last_line(error)) from None
        return iter(())

    def _on_result(self, worker: _Worker[T]) -> Iterator[tuple[T, Any]]:
        ref, item = worker.assigned[0]
        try:
            result = ray.get(ref)
        except RayTaskError as error:
            log.warning("%s", error)
            result = self._retry_or_give_up(item, Unexpected("failed", got=_last_line(error)))
        except RayError as error:
            self._discard(worker)
            # Requeue items that had not started: they cannot have caused the crash.
            self._queued.extend(other for _, other in list(worker.assigned)[1:])
            result = self._retry_or_give_up(item, WorkerLost("its worker died", got=_last_line(error)))
        else:
            worker.assigned.popleft()
            self._tries.pop(item, None)
            yield item, result
            return
        if worker in self._workers:
            worker.assigned.popleft()
        if result is not None:
            yield item, result

    def _retry_or_give_up(self, item: T, error: DancedistError) -> DancedistError | None:
        """Requeue the item; after the last attempt return the error instead."""
        self._tries[item] = self._tries.get(item, 0) + 1
        if self._tries[item] < self._attempts:
            self._queued.append(item)
            return None
        del self._tries[item]
        return error

    def _discard(self, worker: _Worker[T]) -> None:
        ray.kill(worker.actor)
        self._workers.remove(worker)
        self._add_at_s = 0.0


class _Feed(Generic[T]):
    """Buffer that a thread fills from a slow source; `take` never blocks."""

    def __init__(self, items: Iterable[T], ahead: int = 64) -> None:
        self._queue: queue.Queue[Any] = queue.Queue(ahead)
        self._stopped = threading.Event()
        self.ended = False
        threading.Thread(target=self._fill, args=(items,), name="feed", daemon=True).start()

    def take(self) -> T | None:
        """The next item; None if there is none yet or the source has ended. Raises errors of the source."""
        if self.ended:
            return None
        try:
            item = self._queue.get_nowait()
        except queue.Empty:
            return None
        if item is _END:
            self.ended = True
            return None
        if isinstance(item, BaseException):
            raise item
        return item  # type: ignore[no-any-return]

    def stop(self) -> None:
        """Stop reading from the source."""
        self._stopped.set()

    def _fill(self, items: Iterable[T]) -> None:
        try:
            for item in items:
                self._put(item)
                if self._stopped.is_set():
                    return
            self._put(_END)
        except BaseException as error:  # raised in `take`
            self._put(error)

    def _put(self, item: Any) -> None:
        while not self._stopped.is_set():
            try:
                self._queue.put(item, timeout=POLL_S)
                return
            except queue.Full:
                continue


def _last_line(error: Exception) -> str:
    return next((line.strip() for line in reversed(str(error).splitlines()) if line.strip()), type(error).__name__)
