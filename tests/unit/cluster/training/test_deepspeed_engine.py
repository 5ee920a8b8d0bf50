"""DeepSpeed engines in processes that meet over gloo: they learn what plain torch does, and go on where they were."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import pytest
import torch

from dancedist.models.generator import build_generator
from tests.unit.cluster.training.ranks import run
from tests.unit.conftest import toy_recipe

pytestmark = [pytest.mark.slow, pytest.mark.cluster]

STEPS = 20


@cache
def alone() -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    folder = Path(mkdtemp(prefix="dancedist-test-"))
    return run(folder, 1, -1, STEPS), torch.load(folder / "ema.pt", weights_only=True)


def test_one_rank_learns_to_the_bit_what_torch_does(tmp_path: Path) -> None:
    assert run(tmp_path, 1, 0, STEPS) == alone()[0]


def test_one_rank_of_shared_state_differs_in_last_bits_only(tmp_path: Path) -> None:
    # ZeRO lays all weights end to end: others of them are the last of torch's fused Adam, which it does one by one and
    # rounds otherwise than those that it does eight or sixteen at once.
    for a, b in zip(alone()[0]["losses"], run(tmp_path, 1, 1, STEPS)["losses"], strict=True):
        assert a == pytest.approx(b, rel=1e-5)


@pytest.mark.parametrize("stage", [0, 1, 2, 3])
def test_two_ranks_learn_what_one_does_and_go_on_where_they_were(tmp_path: Path, stage: int) -> None:
    whole = run(tmp_path / "whole", 2, stage, STEPS)
    one, ema = alone()
    torch.manual_seed(toy_recipe().training.seed)
    start = build_generator(toy_recipe()).state_dict()
    for step, (a, b) in enumerate(zip(one["losses"], whole["losses"], strict=True)):
        # Sums of floats in another order, and a GAN that makes more of it with every step.
        assert a == pytest.approx(b, rel=1e-6 if step == 0 else 1e-3 if step < 10 else 1e-2), step
    shared = torch.load(tmp_path / "whole/ema.pt", weights_only=True)
    # Where gradients are noise (biases before a norm), Adam makes whole steps of it; 0.07 was measured at every stage.
    apart = torch.cat([(ema[name] - shared[name]).abs().flatten() for name in ema])
    moved = torch.cat([(ema[name] - start[name]).abs().flatten() for name in ema])
    assert float(apart.mean()) < 0.15 * float(moved.mean())
    halves = [run(tmp_path / "halves", 2, stage, STEPS // 2) for _ in range(2)]
    assert [loss for half in halves for loss in half["losses"]] == whole["losses"]
    assert halves[1]["ema"] == whole["ema"]


@pytest.mark.parametrize("stage", [0, 1, 2])
def test_parts_of_a_batch_and_clipping_are_the_engines_too(tmp_path: Path, stage: int) -> None:
    # No turning: its chance is each part's own, so that a part of two ranks would be another than one of one rank.
    settings = {"accumulate": 2, "clip_norm": 0.05, "turn_degrees": 0.0, "max_steps": 6}
    one = run(tmp_path / "one", 1, -1, 6, **settings)
    two = run(tmp_path / "two", 2, stage, 6, **settings)
    for a, b in zip(one["losses"], two["losses"], strict=True):
        assert a == pytest.approx(b, rel=1e-3)
    unclipped = run(tmp_path / "unclipped", 1, -1, 6, **{**settings, "clip_norm": 0.0})
    assert unclipped["losses"][-1] != pytest.approx(one["losses"][-1], rel=1e-3)


def test_without_zero_it_goes_on_with_another_number_of_ranks(tmp_path: Path) -> None:
    run(tmp_path, 2, 0, STEPS // 2)
    rest = run(tmp_path, 1, 0, STEPS // 2)
    for a, b in zip(alone()[0]["losses"][STEPS // 2 :], rest["losses"], strict=True):
        assert a == pytest.approx(b, rel=1e-2)


class _Bad:
    """Unpickled, it would run a command."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.mark),)


def test_what_somebody_put_into_a_checkpoint_is_not_run(tmp_path: Path) -> None:
    run(tmp_path, 1, 1, 2)
    files = [*tmp_path.rglob("*optim_states.pt")]
    assert files
    for file in files:
        torch.save({"optimizer_state_dict": _Bad(tmp_path / "ran")}, file)
    with pytest.raises(AssertionError, match="Weights only load failed"):
        run(tmp_path, 1, 1, 2)
    assert not (tmp_path / "ran").exists()
