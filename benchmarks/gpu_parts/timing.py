"""Timing on a device: both sides of a comparison take turns, and rates are in runs per second."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.gpu_parts.result import Conditions

Work = Callable[[], object]


def take_turns(sides: Mapping[str, Work], conditions: Conditions) -> dict[str, list[float]]:
    """Runs per second of each side, turn by turn."""
    runs = {name: runs_per_turn(work, conditions) for name, work in sides.items()}
    rates: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(conditions.turns):
        for name, work in sides.items():
            rates[name].append(per_second(work, runs[name], conditions.device))
    return rates


def runs_per_turn(work: Work, conditions: Conditions) -> int:
    """Runs that take about one turn. The first runs compile and choose kernels, outside the measured time."""
    for _ in range(2):
        work()
    return max(1, round(conditions.turn_s * per_second(work, 2, conditions.device)))


def per_second(work: Work, runs: int, device: torch.device) -> float:
    """Runs per second."""
    synchronize(device)
    started = time.perf_counter()
    for _ in range(runs):
        work()
    synchronize(device)
    return runs / (time.perf_counter() - started)


def synchronize(device: torch.device) -> None:
    """Wait for the GPU, if the device is one."""
    if device.type == "cuda":
        torch.cuda.synchronize()


def quotients(over: Sequence[float], under: Sequence[float]) -> list[float]:
    """Ratios turn by turn."""
    return [a / b for a, b in zip(over, under, strict=True)]


def rounded(values: Sequence[float], factor: float = 1.0) -> list[float]:
    """Multiply by a factor and round as for a result file."""
    return [round(value * factor, 3) for value in values]


def flop(work: Work) -> int:
    """Count the FLOP of convolutions and matrix products, with the backward pass. Compiled code cannot be counted."""
    with FlopCounterMode(display=False) as counter:
        work()
    return int(counter.get_total_flops())


@contextmanager
def kernels_by_trial() -> Iterator[None]:
    """Let cuDNN time its kernels for each new convolution and use the fastest, instead of a heuristic."""
    before, torch.backends.cudnn.benchmark = torch.backends.cudnn.benchmark, True
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = before
