"""Ranks of a training as processes forked with all modules imported: imports take longer than the training."""

from __future__ import annotations

import hashlib
import json
import os
import socket
from collections.abc import Callable
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist

from cluster.training.deepspeed_engine import deepspeed_engine
from dancedist.training.engine import Ranks, TorchEngine
from dancedist.training.loop import Trainer
from tests.unit.conftest import SIZE, toy, toy_recipe


class SharedCheckpoints:
    """Checkpoints of which all ranks write into one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def load(self, take: Callable[[Path], bool]) -> bool:
        return any(take(path) for path in sorted(self.folder.glob("step_*"), reverse=True))

    def save(self, step: int, write: Callable[[Path], None], *, keep: bool) -> None:
        path = self.folder / f"step_{step:06d}"
        path.mkdir(exist_ok=True)
        write(path)
        dist.barrier()


def run(folder: Path, world: int, stage: int, steps: int, **training: Any) -> dict[str, Any]:
    """Train and return rank 0's losses and the digest of the EMA weights; `stage`: of ZeRO, -1 for plain torch.

    Resumes from a checkpoint in the folder and writes one at the end.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    folder.mkdir(parents=True, exist_ok=True)
    context = get_context("forkserver")
    context.set_forkserver_preload([__name__])
    ranks = [
        context.Process(target=_train_logged, args=(rank, world, stage, port, folder, steps, training))
        for rank in range(world)
    ]
    try:
        for rank in ranks:
            rank.start()
        for rank in ranks:
            rank.join(180)
    finally:
        for rank in ranks:
            rank.kill()
    stderr = "".join((folder / f"stderr-{rank}").read_text()[-2000:] for rank in range(world))
    assert [rank.exitcode for rank in ranks] == [0] * world, stderr
    return json.loads((folder / "losses.json").read_text())  # type: ignore[no-any-return]


def _train_logged(
    rank: int, world: int, stage: int, port: str, folder: Path, steps: int, training: dict[str, Any]
) -> None:
    """Write stderr to a file, which also shows the message of a rank that aborts."""
    with (folder / f"stderr-{rank}").open("w") as stderr:
        os.dup2(stderr.fileno(), 2)
    train(rank, world, stage, port, folder, steps, training)


def train(rank: int, world: int, stage: int, port: str, folder: Path, steps: int, training: dict[str, Any]) -> None:
    """Run one rank to the end."""
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(world)}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    torch.set_num_threads(1)
    dist.init_process_group("gloo")

    def mean(losses: dict[str, float]) -> dict[str, float]:
        values = torch.tensor(list(losses.values()), dtype=torch.float64)
        dist.all_reduce(values)
        return dict(zip(losses, (values / world).tolist(), strict=True))

    recipe = toy_recipe(**{"batch_pairs": 4, "max_steps": 20, **training})
    engine = TorchEngine if stage < 0 else deepspeed_engine(stage, recipe.training.batch_pairs // world)
    background = np.full((SIZE[1], SIZE[0], 3), 60, np.uint8)
    options = {"engine": engine, "ranks": Ranks(rank, world, mean), "checkpoints": SharedCheckpoints(folder)}
    trainer = Trainer(toy(recipe), recipe, folder / f"rank{rank}", "key", background, **options)
    losses = [trainer.train_step() for _ in range(steps)]
    trainer.checkpoints.save(trainer.step, trainer._write_checkpoint, keep=False)
    weights = b"".join(t.numpy().tobytes() for t in trainer.state.ema.module.state_dict().values())
    if rank == 0:
        result = {"losses": losses, "ema": hashlib.sha256(weights).hexdigest()}
        (folder / "losses.json").write_text(json.dumps(result))
        torch.save(trainer.state.ema.module.state_dict(), folder / "ema.pt")
