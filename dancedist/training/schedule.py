"""Length, learning rate and pairs of a training, as pure functions of the step."""

from __future__ import annotations

from math import ceil

import numpy as np
from numpy.typing import NDArray

from dancedist.recipe.schema import TrainingRecipe


def total_steps(pairs: int, recipe: TrainingRecipe) -> int:
    """Steps of a stage: `epochs` over the pairs, at most `max_steps`."""
    steps = ceil(recipe.epochs * pairs / recipe.batch_pairs)
    return min(steps, recipe.max_steps) if recipe.max_steps else steps


def learning_rate(step: int, steps: int, recipe: TrainingRecipe) -> float:
    """Learning rate of a step: constant, then falling linearly to 0 after the part `decay_from`."""
    decay_start = recipe.decay_from * steps
    if step < decay_start or decay_start >= steps:
        return recipe.learning_rate
    return recipe.learning_rate * (steps - step) / (steps - decay_start)


def step_pairs(step: int, pairs: NDArray[np.int64], recipe: TrainingRecipe) -> NDArray[np.int64]:
    """Pairs of a step: int64 (B,) of `pairs` (N,), the frame indices at which pairs end.

    Every epoch is a permutation drawn from the seed and the epoch's number. The result depends on the step alone, so
    that a resumed training sees the same pairs.
    """
    first = step * recipe.batch_pairs
    positions = np.arange(first, first + recipe.batch_pairs)
    epochs, within = np.divmod(positions, len(pairs))
    orders = {int(e): np.random.default_rng([recipe.seed, int(e)]).permutation(len(pairs)) for e in np.unique(epochs)}
    return pairs[[orders[int(e)][i] for e, i in zip(epochs, within, strict=True)]]
