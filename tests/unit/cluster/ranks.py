"""One rank of a training: `ranks.py RANK WORLD STAGE PORT FOLDER STEPS`, stage -1 for plain torch; prints its losses.

A checkpoint in FOLDER is taken up; another is left there at the end.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist

from cluster.engine import deepspeed_engine
from dancedist.training.engine import Ranks, TorchEngine
from dancedist.training.loop import Trainer
from dancedist.training.state import load_state, write_state
from tests.unit.conftest import SIZE, toy, toy_recipe


def main() -> None:
    rank, world, stage = map(int, sys.argv[1:4])
    folder, steps = Path(sys.argv[5]), int(sys.argv[6])
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(world)}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": sys.argv[4]}
    torch.set_num_threads(1)
    dist.init_process_group("gloo")

    def mean(losses: dict[str, float]) -> dict[str, float]:
        values = torch.tensor(list(losses.values()), dtype=torch.float64)
        dist.all_reduce(values)
        return dict(zip(losses, (values / world).tolist(), strict=True))

    recipe = toy_recipe(batch_pairs=4, max_steps=20)
    engine = TorchEngine if stage < 0 else deepspeed_engine(stage, recipe.training.batch_pairs // world)
    background = np.full((SIZE[1], SIZE[0], 3), 60, np.uint8)
    own = folder / f"rank{rank}"
    trainer = Trainer(toy(recipe), recipe, own, "key", background, engine=engine, ranks=Ranks(rank, world, mean))
    load_state(trainer.state, folder, "key")
    losses = [trainer.step() for _ in range(steps)]
    write_state(trainer.state, folder / f"step_{trainer.state.step:06d}", "key", first=rank == 0)
    dist.barrier()
    weights = b"".join(t.numpy().tobytes() for t in trainer.state.ema.module.state_dict().values())
    if rank == 0:
        sys.stdout.write(json.dumps({"losses": losses, "ema": hashlib.sha256(weights).hexdigest()}) + "\n")
        torch.save(trainer.state.ema.module.state_dict(), folder / "ema.pt")


if __name__ == "__main__":
    main()
