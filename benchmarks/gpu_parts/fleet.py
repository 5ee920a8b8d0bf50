"""Eight small trainings on one GPU: one after another in one process, and all at once in a process each."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import torch

from benchmarks.gpu_parts.networks import QUICK
from benchmarks.gpu_parts.result import Conditions, Row
from benchmarks.gpu_parts.timing import rounded, synchronize
from benchmarks.gpu_parts.training import FastTraining
from benchmarks.tools.turns import Side, together

# Approximate seconds of a turn of trainings one after another.
TURN_S = 2.5


def fleet(conditions: Conditions) -> Iterator[Row]:
    """Steps per second of `quick`'s networks over all targets. The GPU is shared by time slicing, without MPS."""
    targets = 2 if conditions.tiny else 8
    with ThreadPoolExecutor(targets) as pool:
        sides = list(pool.map(Side, [partial(trainee, conditions)] * targets))
    ten_steps_s, _ = sides[0].turn(10)
    steps = 1 if conditions.tiny else max(1, round(TURN_S / targets / ten_steps_s * 10))
    # While the first trains alone, the others are idle and only hold memory.
    alone_s, together_s = [], []
    for _ in range(conditions.turns):
        alone_s.append(sides[0].turn(targets * steps)[0])
        together_s.append(together(sides, [(steps,)] * targets)[0])
    for side in sides:
        side.end()
    ratios = [a / b for a, b in zip(alone_s, together_s, strict=True)]
    seconds = {"one_after_another_s": rounded(alone_s), "at_once_s": rounded(together_s)}
    yield Row.of("gpu_fleet_of_8", 2.0, ratios, {"targets": targets, "steps_each": steps, **seconds})


def trainee(conditions: Conditions) -> Callable[[int], None]:
    """Set up one training and warm it up; returns a function that trains for a number of steps."""
    torch.set_num_threads(1)
    step = FastTraining(conditions.shape(QUICK), conditions.device).work(1)

    def train(steps: int) -> None:
        for _ in range(steps):
            step()
        synchronize(conditions.device)

    train(1 if conditions.tiny else 20)
    return train
