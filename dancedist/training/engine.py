"""What the loop asks of whoever holds a network and its optimiser: plain torch here, others on a cluster."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

import torch
from numpy.typing import NDArray
from torch import Tensor, nn

T = TypeVar("T")
_FILE = "engine.pt"


class Engine(Protocol):
    """A network with its optimiser."""

    @property
    def module(self) -> nn.Module:
        """The network itself: what runs through it here is not the engine's to learn from."""

    def __call__(self, *inputs: Any, **named: Any) -> Any:
        """Run the network; `backward` takes losses of it, or of several runs together."""

    def backward(self, loss: Tensor) -> None:
        """Add the gradients of a scalar; with several ranks, their mean over all of them."""

    def step(self, learning_rate: float) -> None:
        """Let the optimiser step, and begin gradients anew."""

    def whole(self) -> AbstractContextManager[None]:
        """While it lasts, `module` has all its weights, however they are shared out between steps."""

    def save(self, folder: Path) -> None:
        """Write all that a training taken up again needs of it, of this rank; every rank saves at the same time."""

    def load(self, folder: Path) -> None:
        """Take up what all ranks have saved."""


MakeEngine = Callable[[nn.Module, torch.optim.Optimizer], Engine]


class TorchEngine:
    """One process, and nothing beside torch."""

    def __init__(self, module: nn.Module, optimiser: torch.optim.Optimizer) -> None:
        self.module, self.optimiser = module, optimiser

    def __call__(self, *inputs: Any, **named: Any) -> Any:
        """See Engine."""
        return self.module(*inputs, **named)

    def backward(self, loss: Tensor) -> None:
        """See Engine."""
        loss.backward()  # type: ignore[no-untyped-call]

    def step(self, learning_rate: float) -> None:
        """See Engine."""
        for group in self.optimiser.param_groups:
            group["lr"] = learning_rate
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)

    def whole(self) -> AbstractContextManager[None]:
        """See Engine."""
        return nullcontext()

    def save(self, folder: Path) -> None:
        """See Engine."""
        folder.mkdir(parents=True, exist_ok=True)
        torch.save({"module": self.module.state_dict(), "optimiser": self.optimiser.state_dict()}, folder / _FILE)

    def load(self, folder: Path) -> None:
        """See Engine."""
        saved = torch.load(folder / _FILE, map_location="cpu", weights_only=True)
        self.module.load_state_dict(saved["module"])
        self.optimiser.load_state_dict(saved["optimiser"])


def _unchanged(losses: dict[str, float]) -> dict[str, float]:
    return losses


@dataclass(frozen=True)
class Ranks:
    """Which part of every batch is this process's: the batch is the recipe's, however many share it.

    `mean` of the losses over all ranks, for the log.
    """

    rank: int = 0
    world: int = 1
    mean: Callable[[dict[str, float]], dict[str, float]] = _unchanged

    def mine(self, batch: NDArray[Any] | list[T]) -> Any:
        """This rank's part of something with an entry per pair."""
        return batch[self.rank :: self.world]
