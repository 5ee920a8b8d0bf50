"""How long a training is, how fast it learns when, and which pairs a step sees: pure functions of the step."""

from __future__ import annotations

from math import ceil

import numpy as np
from numpy.typing import NDArray

from dancedist.recipe import TrainingRecipe


def total_steps(pairs: int, recipe: TrainingRecipe) -> int:
    """Steps of the whole training: `epochs` over the pairs, `max_steps` at most."""
    steps = ceil(recipe.epochs * pairs / recipe.batch_pairs)
    return min(steps, recipe.max_steps) if recipe.max_steps else steps


def learning_rate(step: int, steps: int, recipe: TrainingRecipe) -> float:
    """Constant, then falling in a line to 0 over the part after `decay_from`."""
    decay_start = recipe.decay_from * steps
    if step < decay_start or decay_start >= steps:
        return recipe.learning_rate
    return recipe.learning_rate * (steps - step) / (steps - decay_start)


def step_pairs(step: int, pairs: NDArray[np.int64], recipe: TrainingRecipe) -> NDArray[np.int64]:
    """(B,) the pairs of this step: every epoch is a permutation of its own, drawn from the seed and its number.

    A function of the step alone, so that a training that is taken up again sees what it would have seen.
    """
    first = step * recipe.batch_pairs
    places = np.arange(first, first + recipe.batch_pairs)
    epochs, within = np.divmod(places, len(pairs))
    orders = {int(e): np.random.default_rng([recipe.seed, int(e)]).permutation(len(pairs)) for e in np.unique(epochs)}
    return pairs[[orders[int(e)][i] for e, i in zip(epochs, within, strict=True)]]
