"""Sides of a comparison that take turns: each runs in a process of its own and warms up once."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from multiprocessing import get_context
from multiprocessing.connection import Connection
from statistics import median
from typing import Any

Work = Callable[..., Any]


class Side:
    """A process that calls `make()`, which warms up and returns the work to call in each turn."""

    def __init__(self, make: Callable[[], Work]) -> None:
        context = get_context("spawn")
        self._pipe, child_end = context.Pipe()
        self._process = context.Process(target=_serve, args=(make, child_end), daemon=True)
        self._process.start()
        self.result()

    def start(self, *args: Any) -> None:
        """Start the work with these arguments."""
        self._pipe.send(args)

    def result(self) -> Any:
        """Wait for the result of the work. Raises RuntimeError with the traceback if the work raised."""
        failed, result = self._pipe.recv()
        if failed:
            raise RuntimeError(result)
        return result

    def turn(self, *args: Any) -> tuple[float, Any]:
        """Do the work with these arguments; returns its seconds and its result."""
        seconds, (result,) = together([self], [args])
        return seconds, result

    def end(self) -> None:
        """End the process, which frees its memory."""
        self._pipe.send(None)
        self._process.join()


def _serve(make: Callable[[], Work], pipe: Connection) -> None:
    try:
        work = make()
        pipe.send((False, None))
        for args in iter(pipe.recv, None):
            pipe.send((False, work(*args)))
    except BaseException:
        pipe.send((True, traceback.format_exc()))
        raise


def together(sides: Sequence[Side], args: Sequence[tuple[Any, ...]]) -> tuple[float, list[Any]]:
    """Let all sides work at the same time; returns the seconds until the last is done, and the results."""
    started = time.perf_counter()
    for side, own_args in zip(sides, args, strict=True):
        side.start(*own_args)
    results = [side.result() for side in sides]
    return time.perf_counter() - started, results


def take_turns(sides: Mapping[str, Side], turns: int, *args: Any) -> dict[str, list[float]]:
    """Seconds of each side, turn by turn: within a turn the load of a shared machine is the same for all sides."""
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(turns):
        for name, side in sides.items():
            seconds[name].append(round(side.turn(*args)[0], 4))
        print({name: s[-1] for name, s in seconds.items()}, flush=True)
    return seconds


def times(slow: Sequence[float], fast: Sequence[float]) -> dict[str, float]:
    """Speed-up by the seconds of each turn: median, lowest and highest of the turns."""
    ratios = [a / b for a, b in zip(slow, fast, strict=True)]
    return {"median": round(median(ratios), 3), "lowest": round(min(ratios), 3), "highest": round(max(ratios), 3)}
