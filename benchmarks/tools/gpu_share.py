"""How much of the GPU's measured bf16 matrix rate a training step uses."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial

import torch

from benchmarks.tools.gpu_networks import FAST_512, FAST_1024, Shape
from benchmarks.tools.gpu_part import (
    Conditions,
    Row,
    Work,
    enough,
    flop,
    kernels_by_trial,
    per_second,
    quotients,
    rounded,
    take_turns,
)
from benchmarks.tools.gpu_training import FastTraining

BATCHES = (4, 8, 16)
SIDES = (4096, 8192, 12288, 16384)
# One after another: each is on top of those before.
MEANS = ("eager", "compiled", "compiled, cuDNN's kernels by trial")


def share(name: str, shape: Shape, how: Conditions) -> Iterator[Row]:
    """FLOP a second of steps as part of those of the fastest matrix product, in turns with it.

    The batch is the fastest that fits, told from eager steps: each batch would be compiled for a minute.
    """
    training, product = FastTraining(how.shape(shape), how.device), fastest_product(how)
    speeds = pairs_per_s(training, how)
    batch = max(speeds, key=lambda b: speeds[b])
    step = training.work(batch)
    counted = {"step": flop(step), "product": flop(product)}
    with ExitStack() as stack:
        for means in MEANS[: 1 if how.tiny else None]:
            if means == "compiled":
                training.compile()
            if means == MEANS[2]:
                stack.enter_context(kernels_by_trial())
            rates = take_turns({"product": product, "step": step}, how)
            giga = {side: rounded(rates[side], counted[side] / 1e9) for side in rates}
            about = {"means": means, "batch_pairs": batch, "pairs_per_s": rounded(rates["step"], batch)}
            figures = {**about, "eager_pairs_per_s": speeds, "step_tflop": counted["step"] / 1e12, "gflop_per_s": giga}
            yield Row.of(name, 0.4, quotients(giga["step"], giga["product"]), figures)


share_512 = partial(share, "gpu_training_share_512", FAST_512)
share_1024 = partial(share, "gpu_training_share_1024", FAST_1024)


def fastest_product(how: Conditions) -> Work:
    """Of square bf16 matrices of several sizes, random: on zeros the chip is faster."""
    best, best_rate = None, 0.0
    for side in (64,) if how.tiny else SIDES:
        a, b = (torch.randn(side, side, device=how.device, dtype=torch.bfloat16) for _ in range(2))
        work = partial(torch.mm, a, b, out=torch.empty_like(a))
        rate = per_second(work, max(2, enough(work, how) // 4), how.device) * side**3
        if rate > best_rate:
            best, best_rate = work, rate
    assert best is not None
    return best


def pairs_per_s(training: FastTraining, how: Conditions) -> dict[int, float]:
    """By batch, eager, of the batches that fit."""
    speeds: dict[int, float] = {}
    for batch in (1,) if how.tiny else BATCHES:
        try:
            work = training.work(batch)
            work()
            speeds[batch] = round(batch * per_second(work, 3, how.device), 3)
        except torch.OutOfMemoryError:
            break
    gc.collect()
    torch.cuda.empty_cache()
    return speeds
