from __future__ import annotations

import json
import os
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from dancedist.data.pairs import TargetData
from dancedist.recipe.schema import Recipe
from dancedist.training.engine import TorchEngine
from dancedist.training.loop import Trainer
from tests.unit.conftest import SIZE

BACKGROUND = np.full((SIZE[1], SIZE[0], 3), 60, np.uint8)


class Killed(Exception):
    pass


def train(data: TargetData, recipe: Recipe, folder: Path, die_after: int | None = None) -> Trainer:
    trainer = Trainer(data, recipe, folder, "key", BACKGROUND)
    remaining = [die_after]

    def advance(done: int) -> None:
        if remaining[0] is not None and done == 1:
            remaining[0] -= 1
            if remaining[0] == 0:
                raise Killed

    trainer.run(advance)
    return trainer


def weights(trainer: Trainer) -> list[torch.Tensor]:
    state = trainer.state
    networks = (state.generator.module, state.discriminator.module, state.ema)
    return [t for network in networks for t in network.state_dict().values()]


@pytest.mark.parametrize("die_after", [1, 3, 5, 7])
def test_a_training_interrupted_anywhere_resumes_to_the_same_result(
    toy_target: TargetData, tiny_recipe: Recipe, tmp_path: Path, die_after: int
) -> None:
    whole = train(toy_target, tiny_recipe, tmp_path / "whole")
    with pytest.raises(Killed):
        train(toy_target, tiny_recipe, tmp_path / "interrupted", die_after)
    resumed = train(toy_target, tiny_recipe, tmp_path / "interrupted")
    assert all(torch.equal(a, b) for a, b in zip(weights(whole), weights(resumed), strict=True))
    logs = [(tmp_path / name / "log.jsonl").read_text() for name in ("whole", "interrupted")]
    assert logs[0] == logs[1]
    assert [json.loads(line)["step"] for line in logs[0].splitlines()] == list(range(8))


def test_another_target_starts_a_new_training(toy_target: TargetData, tiny_recipe: Recipe, tmp_path: Path) -> None:
    train(toy_target, tiny_recipe, tmp_path)
    assert Trainer(toy_target, tiny_recipe, tmp_path, "key", BACKGROUND).step == 8
    assert Trainer(toy_target, tiny_recipe, tmp_path, "other", BACKGROUND).step == 0


def test_the_loss_falls(toy_target: TargetData, tiny_recipe: Recipe, tmp_path: Path) -> None:
    longer = tiny_recipe.training.model_copy(update={"max_steps": 60, "learning_rate": 2e-3, "sample_every_steps": 60})
    train(toy_target, tiny_recipe.model_copy(update={"training": longer}), tmp_path)
    losses = [json.loads(line)["g_l1"] for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert sum(losses[-5:]) < 0.7 * sum(losses[:5])


def test_samples_and_a_plot_are_written(toy_target: TargetData, tiny_recipe: Recipe, tmp_path: Path) -> None:
    train(toy_target, tiny_recipe, tmp_path)
    files = {p.name for p in tmp_path.iterdir()}
    assert files == {"log.jsonl", "losses.png", "step_000008", "sample_000004.png", "sample_000008.png"}


def test_frame_by_frame_trains_too(toy_target: TargetData, tiny_recipe: Recipe, tmp_path: Path) -> None:
    plain = tiny_recipe.training.model_copy(update={"temporal": False})
    trainer = train(toy_target, tiny_recipe.model_copy(update={"training": plain}), tmp_path)
    assert trainer.state.discriminator.module.scales[0].stages[0][0].in_channels == 6


def test_every_parameter_is_in_its_optimiser_once(toy_target: TargetData, tiny_recipe: Recipe, tmp_path: Path) -> None:
    state = Trainer(toy_target, tiny_recipe, tmp_path, "key", BACKGROUND).state
    for engine in (state.generator, state.discriminator):
        assert isinstance(engine, TorchEngine)
        parameters = [p for group in engine.optimiser.param_groups for p in group["params"]]
        assert len(parameters) == len({id(p) for p in parameters})
        assert {id(p) for p in parameters} == {id(p) for p in engine.module.parameters()}


def test_a_checkpoint_of_another_format_starts_a_new_training(
    toy_target: TargetData, tiny_recipe: Recipe, tmp_path: Path
) -> None:
    train(toy_target, tiny_recipe, tmp_path)
    common = tmp_path / "step_000008" / "common.pt"
    torch.save({**torch.load(common, weights_only=True), "format": None}, common)
    assert Trainer(toy_target, tiny_recipe, tmp_path, "key", BACKGROUND).step == 0


def test_a_killed_process_resumes_to_the_same_result(
    tmp_path: Path, tiny_recipe: Recipe, toy_target: TargetData
) -> None:
    longer = tiny_recipe.training.model_copy(update={"max_steps": 40, "sample_every_steps": 40})
    recipe = tiny_recipe.model_copy(update={"training": longer})
    (tmp_path / "job").write_bytes(pickle.dumps({"target": toy_target, "recipe": recipe, "background": BACKGROUND}))
    code = (
        "import pickle, sys, time, torch; from pathlib import Path; from dancedist.training.loop import Trainer\n"
        "job = pickle.loads(Path(sys.argv[1]).read_bytes()); torch.set_num_threads(int(sys.argv[3]))\n"
        "slow = lambda done: time.sleep(float(sys.argv[4]))\n"
        "Trainer(job['target'], job['recipe'], Path(sys.argv[2]), 'key', job['background']).run(slow)\n"
    )

    def start(folder: Path, pause_s: float) -> subprocess.Popen[bytes]:
        threads = str(torch.get_num_threads())
        return subprocess.Popen([sys.executable, "-c", code, tmp_path / "job", folder, threads, str(pause_s)])

    victim = start(tmp_path / "interrupted", 0.1)
    log, deadline = tmp_path / "interrupted" / "log.jsonl", time.monotonic() + 60
    while not (log.exists() and len(log.read_text().splitlines()) > 7):
        assert victim.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    os.kill(victim.pid, signal.SIGKILL)
    assert victim.wait() == -signal.SIGKILL
    assert start(tmp_path / "interrupted", 0).wait() == 0
    assert start(tmp_path / "whole", 0).wait() == 0
    assert log.read_text() == (tmp_path / "whole" / "log.jsonl").read_text()
    states = [
        torch.load(tmp_path / n / "step_000040/common.pt", weights_only=True)["ema"] for n in ("interrupted", "whole")
    ]
    assert all(torch.equal(states[0][k], states[1][k]) for k in states[1])
