"""Several ranks that share a batch learn the same as one. The ranks are threads, so that no cluster is needed."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from dancedist.data.pairs import TargetData
from dancedist.recipe.schema import Recipe
from dancedist.training.engine import MakeEngine, Ranks, TorchEngine
from dancedist.training.loop import Trainer
from tests.unit.conftest import SIZE

BACKGROUND = np.full((SIZE[1], SIZE[0], 3), 60, np.uint8)
STEPS = 6


class AllReduce:
    """Averages gradients and losses of all ranks."""

    def __init__(self, world: int) -> None:
        self.values: list[list[Tensor]] = [[] for _ in range(world)]
        self.barrier = Barrier(world, timeout=120)

    def mean(self, rank: int, values: list[Tensor]) -> list[Tensor]:
        self.values[rank] = values
        self.barrier.wait()
        means = [torch.stack(same).mean(0) for same in zip(*self.values, strict=True)]
        self.barrier.wait()
        return means

    def engine(self, rank: int) -> MakeEngine:
        all_reduce = self

        class AveragingEngine(TorchEngine):
            def backward(self, loss: Tensor) -> None:
                super().backward(loss)
                own = [p for p in self.module.parameters() if p.grad is not None]
                for p, grad in zip(own, all_reduce.mean(rank, [p.grad.clone() for p in own]), strict=True):
                    p.grad = grad

        return AveragingEngine

    def losses(self, rank: int) -> Callable[[dict[str, float]], dict[str, float]]:
        def mean(losses: dict[str, float]) -> dict[str, float]:
            means = self.mean(rank, [torch.tensor(v, dtype=torch.float64) for v in losses.values()])
            return dict(zip(losses, map(float, means), strict=True))

        return mean


def test_two_ranks_learn_the_same_as_one(toy_target: TargetData, tiny_recipe: Recipe, tmp_path: Path) -> None:
    training = tiny_recipe.training.model_copy(update={"batch_pairs": 4, "precision": "fp32"})
    # With rotated views, windows and random crops: random numbers must depend on the batch, not on the rank.
    losses = tiny_recipe.losses.model_copy(update={"perceptual_crop_px": 16})
    recipe = tiny_recipe.model_copy(update={"training": training, "losses": losses})

    all_reduce = AllReduce(2)
    ranks = [Ranks(r, 2, all_reduce.losses(r)) for r in range(2)]
    # Not in threads: initial weights are drawn from the process's only random generator.
    alone = Trainer(toy_target, recipe, tmp_path / "alone", "key", BACKGROUND)
    shared = [
        Trainer(
            toy_target, recipe, tmp_path / f"{r.rank}", "key", BACKGROUND, engine=all_reduce.engine(r.rank), ranks=r
        )
        for r in ranks
    ]

    for trainer in (alone, *shared):
        trainer.perceptual = F.l1_loss  # type: ignore[assignment]

    def train(trainer: Trainer) -> list[dict[str, float]]:
        return [trainer.train_step() for _ in range(STEPS)]

    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(train, shared)
    assert first == second
    for one, two in zip(train(alone), first, strict=True):
        assert one == pytest.approx(two, rel=2e-4)


def test_a_batch_that_ranks_cannot_share_is_refused(
    toy_target: TargetData, tiny_recipe: Recipe, tmp_path: Path
) -> None:
    odd = tiny_recipe.model_copy(update={"training": tiny_recipe.training.model_copy(update={"batch_pairs": 3})})
    with pytest.raises(AssertionError):
        Trainer(toy_target, odd, tmp_path, "key", BACKGROUND, ranks=Ranks(0, 2))
