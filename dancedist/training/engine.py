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
        """Take the gradients of a scalar: the mean over the parts of a batch, and over all ranks."""

    def step(self, learning_rate: float) -> None:
        """After each part's `backward`; the last one lets the optimiser step, and begins gradients anew."""

    def whole(self) -> AbstractContextManager[None]:
        """While it lasts, `module` has all its weights, however they are shared out between steps."""

    def save(self, folder: Path) -> None:
        """Write all that a training taken up again needs of it, of this rank; every rank saves at the same time."""

    def load(self, folder: Path) -> None:
        """Take up what all ranks have saved."""


class MakeEngine(Protocol):
    """What makes engines: a batch comes in so many `parts`, gradients longer than `clip_norm` are cut (0: never)."""

    def __call__(self, module: nn.Module, optimiser: torch.optim.Optimizer, parts: int, clip_norm: float) -> Engine:
        """Take a network in."""


class TorchEngine:
    """One process, and nothing beside torch."""

    def __init__(
        self, module: nn.Module, optimiser: torch.optim.Optimizer, parts: int = 1, clip_norm: float = 0.0
    ) -> None:
        self.module, self.optimiser = module, optimiser
        self._parts, self._clip_norm, self._seen = parts, clip_norm, 0

    def __call__(self, *inputs: Any, **named: Any) -> Any:
        """See Engine."""
        return self.module(*inputs, **named)

    def backward(self, loss: Tensor) -> None:
        """See Engine."""
        (loss / self._parts).backward()  # type: ignore[no-untyped-call]

    def step(self, learning_rate: float) -> None:
        """See Engine."""
        self._seen = (self._seen + 1) % self._parts
        if self._seen:
            return
        if self._clip_norm:
            torch.nn.utils.clip_grad_norm_(self.module.parameters(), self._clip_norm)
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
