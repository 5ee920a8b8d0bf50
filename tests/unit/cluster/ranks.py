"""One rank of a training: `ranks.py RANK WORLD STAGE PORT FOLDER STEPS SETTINGS`, stage -1 for plain torch.

Prints its losses. A checkpoint in FOLDER is taken up; another is left there at the end.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist

from cluster.engine import deepspeed_engine
from dancedist.training.engine import Ranks, TorchEngine
from dancedist.training.loop import Trainer
from tests.unit.conftest import SIZE, toy, toy_recipe


class Together:
    """All ranks write into one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def load(self, take: Callable[[Path], bool]) -> bool:
        return any(take(path) for path in sorted(self.folder.glob("step_*"), reverse=True))

    def save(self, step: int, write: Callable[[Path], None], *, keep: bool) -> None:
        path = self.folder / f"step_{step:06d}"
        path.mkdir(exist_ok=True)
        write(path)
        dist.barrier()


def main() -> None:
    rank, world, stage = map(int, sys.argv[1:4])
    folder, steps, training = Path(sys.argv[5]), int(sys.argv[6]), json.loads(sys.argv[7])
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(world)}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": sys.argv[4]}
    torch.set_num_threads(1)
    dist.init_process_group("gloo")

    def mean(losses: dict[str, float]) -> dict[str, float]:
        values = torch.tensor(list(losses.values()), dtype=torch.float64)
        dist.all_reduce(values)
        return dict(zip(losses, (values / world).tolist(), strict=True))

    recipe = toy_recipe(**{"batch_pairs": 4, "max_steps": 20, **training})
    engine = TorchEngine if stage < 0 else deepspeed_engine(stage, recipe.training.batch_pairs // world)
    background = np.full((SIZE[1], SIZE[0], 3), 60, np.uint8)
    means = {"engine": engine, "ranks": Ranks(rank, world, mean), "checkpoints": Together(folder)}
    trainer = Trainer(toy(recipe), recipe, folder / f"rank{rank}", "key", background, **means)
    losses = [trainer.train_step() for _ in range(steps)]
    trainer.checkpoints.save(trainer.step, trainer._write, keep=False)
    weights = b"".join(t.numpy().tobytes() for t in trainer.state.ema.module.state_dict().values())
    if rank == 0:
        sys.stdout.write(json.dumps({"losses": losses, "ema": hashlib.sha256(weights).hexdigest()}) + "\n")
        torch.save(trainer.state.ema.module.state_dict(), folder / "ema.pt")


if __name__ == "__main__":
    main()
