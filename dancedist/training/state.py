"""All that a training is at one step: networks, optimisers, the average of the weights. Saved whole or not at all."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from dancedist.files import published
from dancedist.gan.discriminator import Discriminator
from dancedist.gan.generator import build_generator
from dancedist.recipe import Recipe
from dancedist.training.engine import Engine, MakeEngine, TorchEngine

FORMAT = 2


@dataclass
class TrainingState:
    """Both networks in their engines, the generator's EMA, the steps done and the seconds they took."""

    generator: Engine
    discriminator: Engine
    ema: AveragedModel
    step: int = 0
    seconds: float = 0.0

    def parts(self) -> dict[str, Any]:
        """Name -> everything that has a state_dict."""
        return {"generator": self.generator, "discriminator": self.discriminator, "ema": self.ema}


def new_state(recipe: Recipe, device: torch.device, engine: MakeEngine = TorchEngine) -> TrainingState:
    """Step 0: weights drawn from the recipe's seed."""
    t, d = recipe.training, recipe.discriminator
    with torch.random.fork_rng():
        torch.manual_seed(t.seed)
        generator = build_generator(recipe.generator).to(device)
        channels = 12 if t.temporal else 6
        discriminator = Discriminator(channels, d.filters, d.layers, d.scales).to(device)
    ema = AveragedModel(generator, multi_avg_fn=get_ema_multi_avg_fn(t.ema_decay))  # type: ignore[no-untyped-call]
    engines = [
        engine(n, torch.optim.Adam(n.parameters(), t.learning_rate, t.betas)) for n in (generator, discriminator)
    ]
    return TrainingState(engines[0], engines[1], ema)


def save_state(state: TrainingState, path: Path, fingerprint: str) -> None:
    """Write a checkpoint in place of the last one."""
    parts = {name: part.state_dict() for name, part in state.parts().items()}
    with published(path) as partial:
        facts = {"format": FORMAT, "fingerprint": fingerprint, "step": state.step, "seconds": state.seconds}
        torch.save({**facts, **parts}, partial)


def load_state(state: TrainingState, path: Path, fingerprint: str) -> bool:
    """Take up a checkpoint in `state`; False, and nothing done, where there is none of this fingerprint."""
    if not path.exists():
        return False
    saved = torch.load(path, map_location="cpu", weights_only=True)
    if (saved.get("format"), saved["fingerprint"]) != (FORMAT, fingerprint):
        return False
    for name, part in state.parts().items():
        part.load_state_dict(saved[name])
    state.step, state.seconds = saved["step"], saved["seconds"]
    return True
