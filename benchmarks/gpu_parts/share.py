"""The share of the GPU's measured bf16 matrix rate that a training step uses."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial

import torch

from benchmarks.gpu_parts.networks import FAST_512, FAST_1024, Shape
from benchmarks.gpu_parts.result import Conditions, Row
from benchmarks.gpu_parts.timing import (
    Work,
    flop,
    kernels_by_trial,
    per_second,
    quotients,
    rounded,
    runs_per_turn,
    take_turns,
)
from benchmarks.gpu_parts.training import FastTraining

BATCHES = (4, 8, 16)
SIDES = (4096, 8192, 12288, 16384)
# Tried in this order; each variant includes those before it.
VARIANTS = ("eager", "compiled", "compiled, cuDNN's kernels by trial")


def share(name: str, shape: Shape, conditions: Conditions) -> Iterator[Row]:
    """FLOP per second of training steps as a share of those of the fastest matrix product, measured in turns.

    The batch is the fastest that fits into memory in eager mode: compiling takes a minute per batch size.
    """
    training, product = FastTraining(conditions.shape(shape), conditions.device), fastest_product(conditions)
    speeds = pairs_per_s(training, conditions)
    batch = max(speeds, key=lambda b: speeds[b])
    step = training.work(batch)
    flops = {"step": flop(step), "product": flop(product)}
    with ExitStack() as stack:
        for variant in VARIANTS[: 1 if conditions.tiny else None]:
            if variant == "compiled":
                training.compile()
            if variant == VARIANTS[2]:
                stack.enter_context(kernels_by_trial())
            rates = take_turns({"product": product, "step": step}, conditions)
            gflop_per_s = {side: rounded(rates[side], flops[side] / 1e9) for side in rates}
            batch_figures = {"means": variant, "batch_pairs": batch, "pairs_per_s": rounded(rates["step"], batch)}
            figures = {
                **batch_figures,
                "eager_pairs_per_s": speeds,
                "step_tflop": flops["step"] / 1e12,
                "gflop_per_s": gflop_per_s,
            }
            yield Row.of(name, 0.4, quotients(gflop_per_s["step"], gflop_per_s["product"]), figures)


share_512 = partial(share, "gpu_training_share_512", FAST_512)
share_1024 = partial(share, "gpu_training_share_1024", FAST_1024)


def fastest_product(conditions: Conditions) -> Work:
    """The fastest product of square bf16 matrices of several sizes. They are random: on zeros the chip is faster."""
    best, best_rate = None, 0.0
    for side in (64,) if conditions.tiny else SIDES:
        a, b = (torch.randn(side, side, device=conditions.device, dtype=torch.bfloat16) for _ in range(2))
        work = partial(torch.mm, a, b, out=torch.empty_like(a))
        rate = per_second(work, max(2, runs_per_turn(work, conditions) // 4), conditions.device) * side**3
        if rate > best_rate:
            best, best_rate = work, rate
    assert best is not None
    return best


def pairs_per_s(training: FastTraining, conditions: Conditions) -> dict[int, float]:
    """Pairs per second in eager mode, by batch size, for the batches that fit into memory."""
    speeds: dict[int, float] = {}
    for batch in (1,) if conditions.tiny else BATCHES:
        try:
            work = training.work(batch)
            work()
            speeds[batch] = round(batch * per_second(work, 3, conditions.device), 3)
        except torch.OutOfMemoryError:
            break
    gc.collect()
    torch.cuda.empty_cache()
    return speeds
