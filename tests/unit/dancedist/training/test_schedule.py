from __future__ import annotations

import numpy as np

from dancedist.recipe.schema import TrainingRecipe
from dancedist.training.schedule import learning_rate, step_pairs, total_steps


def test_a_training_ends_after_epochs_or_steps_whichever_is_first() -> None:
    assert total_steps(10, TrainingRecipe(epochs=2, batch_pairs=4)) == 5
    assert total_steps(10, TrainingRecipe(epochs=2, batch_pairs=4, max_steps=3)) == 3


def test_every_epoch_sees_every_pair_once_in_another_order() -> None:
    pairs, recipe = np.arange(100, 112), TrainingRecipe(batch_pairs=4)
    epochs = [np.concatenate([step_pairs(3 * e + i, pairs, recipe) for i in range(3)]) for e in range(2)]
    assert all(sorted(e) == list(pairs) for e in epochs)
    assert list(epochs[0]) != list(epochs[1])


def test_a_batch_may_span_two_epochs() -> None:
    pairs, recipe = np.arange(5), TrainingRecipe(batch_pairs=4)
    pairs_seen = np.concatenate([step_pairs(s, pairs, recipe) for s in range(5)])
    assert sorted(pairs_seen) == sorted(list(range(5)) * 4)


def test_a_batch_may_be_larger_than_the_target() -> None:
    assert len(step_pairs(0, np.arange(3), TrainingRecipe(batch_pairs=8))) == 8


def test_the_learning_rate_is_constant_then_falls_to_zero() -> None:
    recipe = TrainingRecipe(learning_rate=1.0, decay_from=0.5)
    rates = [learning_rate(s, 100, recipe) for s in range(100)]
    assert rates[:50] == [1.0] * 50
    assert np.allclose(np.diff(rates[50:]), -0.02)
    assert 0 < rates[-1] < 0.03
    assert learning_rate(99, 100, TrainingRecipe(learning_rate=1.0)) == 1.0
