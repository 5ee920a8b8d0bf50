"""Eight small trainings on one GPU: one after another in one process, against all at once, each in its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import torch

from benchmarks.tools.gpu_networks import QUICK
from benchmarks.tools.gpu_part import Conditions, Row, rounded, synchronize
from benchmarks.tools.gpu_training import FastTraining
from benchmarks.tools.turns import Side, together

# Seconds of a turn of one after another.
TURN_S = 2.5


def fleet(how: Conditions) -> Iterator[Row]:
    """Steps a second of `quick`'s networks, all targets together. The GPU is shared as it is: no MPS."""
    targets = 2 if how.tiny else 8
    with ThreadPoolExecutor(targets) as pool:
        sides = list(pool.map(Side, [partial(trainee, how)] * targets))
    trial, _ = sides[0].turn(10)
    steps = 1 if how.tiny else max(1, round(TURN_S / targets / trial * 10))
    # The seven others wait meanwhile, and hold memory only.
    alone_s, together_s = [], []
    for _ in range(how.turns):
        alone_s.append(sides[0].turn(targets * steps)[0])
        together_s.append(together(sides, [(steps,)] * targets)[0])
    for side in sides:
        side.end()
    ratios = [a / b for a, b in zip(alone_s, together_s, strict=True)]
    seconds = {"one_after_another_s": rounded(alone_s), "at_once_s": rounded(together_s)}
    yield Row.of("gpu_fleet_of_8", 2.0, ratios, {"targets": targets, "steps_each": steps, **seconds})


def trainee(how: Conditions) -> Callable[[int], None]:
    """One training, warmed up: does so many steps when told to."""
    torch.set_num_threads(1)
    step = FastTraining(how.shape(QUICK), how.device).work(1)

    def learn(steps: int) -> None:
        for _ in range(steps):
            step()
        synchronize(how.device)

    learn(1 if how.tiny else 20)
    return learn
