"""Sides that take turns: each lives in a process of its own, warms up once, and works when it is told to."""

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
    """`make()`, called in a process of its own, gives what does the work; it warms up by itself."""

    def __init__(self, make: Callable[[], Work]) -> None:
        context = get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(make, theirs), daemon=True)
        self._process.start()
        self.answer()

    def begin(self, *args: Any) -> None:
        """Let it work with these arguments."""
        self._pipe.send(args)

    def answer(self) -> Any:
        """What came of it. Raises RuntimeError with the traceback of what the work raised."""
        failed, said = self._pipe.recv()
        if failed:
            raise RuntimeError(said)
        return said

    def turn(self, *args: Any) -> tuple[float, Any]:
        """Seconds that the work took with these arguments, and what came of it."""
        seconds, (said,) = together([self], [args])
        return seconds, said

    def end(self) -> None:
        """Give its memory back."""
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
    """Seconds until all have done what they are told at the same time, and what came of it."""
    began = time.perf_counter()
    for side, own in zip(sides, args, strict=True):
        side.begin(*own)
    said = [side.answer() for side in sides]
    return time.perf_counter() - began, said


def take_turns(sides: Mapping[str, Side], turns: int, *args: Any) -> dict[str, list[float]]:
    """Seconds of each side, turn by turn: in one turn a shared machine is as busy for all."""
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(turns):
        for name, side in sides.items():
            seconds[name].append(round(side.turn(*args)[0], 4))
        print({name: s[-1] for name, s in seconds.items()}, flush=True)
    return seconds


def times(slow: Sequence[float], fast: Sequence[float]) -> dict[str, float]:
    """How many times as fast, by seconds of each turn: the turns' median, lowest and highest."""
    ratios = [a / b for a, b in zip(slow, fast, strict=True)]
    return {"median": round(median(ratios), 3), "lowest": round(min(ratios), 3), "highest": round(max(ratios), 3)}
