"""Trainings of the first release resume from their checkpoints with the losses that it would have had."""

from __future__ import annotations

import json
import math
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from dancedist.data.target import Target, background_of, load_target
from dancedist.pose.sequence import read_poses
from dancedist.recipe.loading import load_recipe
from dancedist.recipe.schema import Recipe
from dancedist.training.loop import Trainer
from dancedist.training.target import target_fingerprint, train_dancer, training_fingerprint
from tests.unit.conftest import FIXTURES

CHECKPOINT = FIXTURES / "checkpoint"
EXPECTED = json.loads((CHECKPOINT / "losses.json").read_text())
TOLERANCE = 1e-3


def recipe() -> Recipe:
    """The recipe of the checkpoint, with old field names."""
    return load_recipe("paper", CHECKPOINT / "recipe.toml")


def target_in(work: Path) -> Target:
    return load_target([CHECKPOINT / "film.mp4"], recipe(), work, poses_of=[read_poses(CHECKPOINT / "poses.parquet")])


def is_close(row: dict[str, float], expected: dict[str, float]) -> bool:
    return row.keys() == expected.keys() and all(
        math.isclose(row[name], value, rel_tol=TOLERANCE, abs_tol=1e-6) for name, value in expected.items()
    )


@pytest.mark.parametrize("stage", ["global", "face"])
def test_a_training_resumes(stage: str, tmp_path: Path) -> None:
    shutil.copytree(CHECKPOINT / stage, tmp_path / "work")
    target, start = target_in(tmp_path / "work"), EXPECTED[stage]["step"]
    trainer = Trainer(
        target.data, recipe(), tmp_path / "work", target_fingerprint(target), background_of(target, recipe())
    )
    # A checkpoint with another key would be ignored, and training would silently start from step 0.
    assert (trainer.step, trainer.stage_name) == (start, stage)
    bundle = train_dancer(target, recipe(), "rosa", tmp_path / "work", tmp_path / "dancer")
    rows = [json.loads(line) for line in (tmp_path / "work" / "log.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [*range(EXPECTED["steps"])]
    # Finished steps are not repeated: their rows are the stored ones.
    stored = [json.loads(line) for line in (CHECKPOINT / stage / "log.jsonl").read_text().splitlines()]
    assert rows[:start] == stored[:start]
    assert all(map(is_close, rows[start:], EXPECTED[stage]["losses"]))
    assert bundle.dancer.provenance.training_fingerprint == EXPECTED["training_fingerprint"]


def test_fingerprints_of_a_target(tmp_path: Path) -> None:
    target = target_in(tmp_path)
    assert target_fingerprint(target) == EXPECTED["target_fingerprint"]
    assert training_fingerprint(target, recipe()) == EXPECTED["training_fingerprint"]
    assert json.loads((tmp_path / "pictures" / "cache.json").read_text())["key"] == EXPECTED["cache_keys"]["faces"]


DEEPSPEED = """
import json, os, sys, torch
from pathlib import Path
import torch.distributed as dist
from cluster.training.deepspeed_engine import deepspeed_engine
from dancedist.data.target import background_of
from dancedist.training.loop import Trainer
from dancedist.training.target import target_fingerprint
from tests.unit.compatibility.test_checkpoints import recipe, target_in

torch.set_num_threads(1)
work = Path(sys.argv[1])
store = dist.FileStore(str(work / "store"), 1)
dist.init_process_group("gloo", store=store, rank=0, world_size=1)
target, config = target_in(work), recipe()
engine = deepspeed_engine(0, config.training.batch_pairs)
trainer = Trainer(target.data, config, work, target_fingerprint(target), background_of(target, config), engine=engine)
print("RESULT", json.dumps({"step": trainer.step, "losses": [trainer.train_step() for _ in range(int(sys.argv[2]))]}))
"""


@pytest.mark.slow
def test_a_deepspeed_training_resumes(tmp_path: Path) -> None:
    expected = json.loads((CHECKPOINT / "deepspeed" / "losses.json").read_text())
    shutil.copytree(CHECKPOINT / "deepspeed", tmp_path / "work")
    command = [sys.executable, "-c", DEEPSPEED, str(tmp_path / "work"), str(len(expected["losses"]))]
    # DeepSpeed requires these variables even if the process group is initialised.
    env = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "0"}
    env["PYTHONPATH"] = str(FIXTURES.parents[1])
    process = subprocess.run(command, capture_output=True, text=True, timeout=300, env={**os.environ, **env})
    assert process.returncode == 0, process.stderr[-2000:]
    result = json.loads(next(line for line in process.stdout.splitlines() if line.startswith("RESULT"))[7:])
    assert result["step"] == expected["step"]
    assert all(map(is_close, result["losses"], expected["losses"]))
