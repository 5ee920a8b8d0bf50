"""Ray actors that each do one item of work after another; items outlive their actors.

Ray Data's own actor pool hands out blocks of rows: a block of one row costs its driver more than a short segment takes,
and where a worker dies, none of its rows is known to be the guilty one. docs/decisions/0004 has the figures.
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
# A worker has one item to do and one to go on with.
IN_FLIGHT = 2
LOOK_AGAIN_S = 0.5
GROW_EVERY_S = 5.0
# Workers that die so often before any of them is ready will never be.
MAX_FAILED_STARTS = 5
_END = object()


@dataclass(eq=False)
class _Worker(Generic[T]):
    """An actor, and what it was given: (answer, item), the oldest first. `since` is when it was last heard of."""

    actor: Any
    ready: ray.ObjectRef | None
    given: deque[tuple[ray.ObjectRef, T]] = field(default_factory=deque)
    since: float = field(default_factory=time.monotonic)


class WorkerPool(Generic[T]):
    """As many workers as `wanted()` says; `start` makes an actor with the methods `ready` and `do(item)`.

    An item whose worker dies, raises or is silent for `timeout_s` is given to another, `attempts` times in all.
    """

    def __init__(self, start: Callable[[], Any], wanted: Callable[[], int], *, attempts: int, timeout_s: float) -> None:
        self._start, self._wanted, self._attempts, self._timeout_s = start, wanted, attempts, timeout_s
        self._workers: list[_Worker[T]] = []
        self._next: deque[T] = deque()
        self._tried: dict[T, int] = {}
        self._failed_starts = 0
        self._grow_at = 0.0

    def run(self, items: Iterable[T]) -> Iterator[tuple[T, Any] | None]:
        """Each item, with what `do` answered, or WorkerLost or Unexpected; in the order in which they are done.

        None now and then, so that nobody waits for news. Raises WorkersUnfit where no worker starts, and what
        `items` raises.
        """
        feed = _Feed(items)
        try:
            while not (feed.ended and not self._next and not any(w.given for w in self._workers)):
                if not self._next and (item := feed.take()) is not None:
                    self._next.append(item)
                # No sooner: a job that finds all done starts no worker, and reading comes first to the cores.
                if self._next:
                    self._grow()
                self._hand_out(feed)
                yield from self._collect()
                yield None
        finally:
            feed.stop()
            # An error's traceback can keep this waiting until Ray is gone; to ask it then would start another.
            for worker in self._workers if ray.is_initialized() else ():
                ray.kill(worker.actor)

    def _grow(self) -> None:
        if time.monotonic() < self._grow_at:
            return
        self._grow_at = time.monotonic() + GROW_EVERY_S
        for _ in range(self._wanted() - len(self._workers)):
            actor = self._start()
            self._workers.append(_Worker(actor, actor.ready.remote()))

    def _hand_out(self, feed: _Feed[T]) -> None:
        """To whoever has least to do, so that the last items spread."""
        for depth in range(IN_FLIGHT):
            for worker in self._workers:
                if worker.ready is None and len(worker.given) == depth:
                    item = self._next.popleft() if self._next else feed.take()
                    if item is None:
                        return
                    if not worker.given:
                        worker.since = time.monotonic()
                    worker.given.append((worker.actor.do.remote(item), item))

    def _collect(self) -> Iterator[tuple[T, Any]]:
        waiting = {w.ready or w.given[0][0]: w for w in self._workers if w.ready or w.given}
        if not waiting:
            time.sleep(LOOK_AGAIN_S / 10)
            return
        done, _ = ray.wait([*waiting], num_returns=1, timeout=LOOK_AGAIN_S)
        if done:
            done, _ = ray.wait([*waiting], num_returns=len(waiting), timeout=0)
        for ref in done:
            worker = waiting[ref]
            worker.since = time.monotonic()
            yield from self._greeted(worker) if worker.ready else self._answered(worker)
        for worker in self._workers:
            if worker.given and time.monotonic() - worker.since > self._timeout_s:
                log.warning("a worker was silent for %.0f s and is replaced", self._timeout_s)
                ray.kill(worker.actor)

    def _greeted(self, worker: _Worker[T]) -> Iterator[tuple[T, Any]]:
        try:
            ray.get(worker.ready)
            worker.ready, self._failed_starts = None, 0
        except RayTaskError as error:
            if isinstance(error.cause, DancedistError):
                raise error.cause from None
            raise WorkersUnfit("a worker does not start", got=_last_line(error)) from None
        except RayError as error:
            self._bury(worker)
            self._failed_starts += 1
            if self._failed_starts >= MAX_FAILED_STARTS:
                raise WorkersUnfit("workers die before they are ready", got=_last_line(error)) from None
        return iter(())

    def _answered(self, worker: _Worker[T]) -> Iterator[tuple[T, Any]]:
        ref, item = worker.given[0]
        try:
            answer = ray.get(ref)
        except RayTaskError as error:
            log.warning("%s", error)
            answer = self._failed(item, Unexpected("failed", got=_last_line(error)))
        except RayError as error:
            self._bury(worker)
            # What it was only going to do was not what killed it.
            self._next.extend(other for _, other in list(worker.given)[1:])
            answer = self._failed(item, WorkerLost("its worker died", got=_last_line(error)))
        else:
            worker.given.popleft()
            self._tried.pop(item, None)
            yield item, answer
            return
        if worker in self._workers:
            worker.given.popleft()
        if answer is not None:
            yield item, answer

    def _failed(self, item: T, error: DancedistError) -> DancedistError | None:
        self._tried[item] = self._tried.get(item, 0) + 1
        if self._tried[item] < self._attempts:
            self._next.append(item)
            return None
        del self._tried[item]
        return error

    def _bury(self, worker: _Worker[T]) -> None:
        ray.kill(worker.actor)
        self._workers.remove(worker)
        self._grow_at = 0.0


class _Feed(Generic[T]):
    """Items taken from a slow source by a thread; `take` never waits."""

    def __init__(self, items: Iterable[T], ahead: int = 64) -> None:
        self._queue: queue.Queue[Any] = queue.Queue(ahead)
        self._stopped = threading.Event()
        self.ended = False
        threading.Thread(target=self._fill, args=(items,), name="feed", daemon=True).start()

    def take(self) -> T | None:
        """The next item, or None if there is none yet, or no more. Raises what the source raised."""
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
        """Take nothing more from the source."""
        self._stopped.set()

    def _fill(self, items: Iterable[T]) -> None:
        try:
            for item in items:
                self._put(item)
                if self._stopped.is_set():
                    return
            self._put(_END)
        except BaseException as error:  # told to whoever takes
            self._put(error)

    def _put(self, item: Any) -> None:
        while not self._stopped.is_set():
            try:
                self._queue.put(item, timeout=LOOK_AGAIN_S)
                return
            except queue.Full:
                continue


def _last_line(error: Exception) -> str:
    return next((line.strip() for line in reversed(str(error).splitlines()) if line.strip()), type(error).__name__)
