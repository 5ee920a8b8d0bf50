"""The interface of an engine, which holds a network and its optimiser: plain torch here, DeepSpeed on a cluster."""

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
        """The network itself; `backward` does not apply to what is computed with it directly."""

    def __call__(self, *inputs: Any, **named: Any) -> Any:
        """Run the network. `backward` takes a loss of one run, or of several runs together."""

    def backward(self, loss: Tensor) -> None:
        """Accumulate gradients of a loss, a float32 scalar: averaged over micro-batches and over ranks."""

    def step(self, learning_rate: float) -> None:
        """Finish a micro-batch, after its `backward`; the last one updates the weights and clears the gradients."""

    def full_weights(self) -> AbstractContextManager[None]:
        """Context in which `module` holds all weights, even if they are sharded between steps."""

    def save(self, folder: Path) -> None:
        """Write this rank's state for resuming a training; all ranks save at the same time."""

    def load(self, folder: Path) -> None:
        """Restore the state that all ranks have saved."""


class MakeEngine(Protocol):
    """Makes an engine for a network and its optimiser.

    A batch comes in `micro_batches`; a gradient longer than `clip_norm` is clipped (0: never).
    """

    def __call__(
        self, module: nn.Module, optimiser: torch.optim.Optimizer, micro_batches: int, clip_norm: float
    ) -> Engine:
        """Make the engine."""


class TorchEngine:
    """Engine for a single process, with torch alone."""

    def __init__(
        self, module: nn.Module, optimiser: torch.optim.Optimizer, micro_batches: int = 1, clip_norm: float = 0.0
    ) -> None:
        self.module, self.optimiser = module, optimiser
        self._micro_batches, self._clip_norm, self._done = micro_batches, clip_norm, 0

    def __call__(self, *inputs: Any, **named: Any) -> Any:
        """See Engine."""
        return self.module(*inputs, **named)

    def backward(self, loss: Tensor) -> None:
        """See Engine."""
        (loss / self._micro_batches).backward()  # type: ignore[no-untyped-call]

    def step(self, learning_rate: float) -> None:
        """See Engine."""
        self._done = (self._done + 1) % self._micro_batches
        if self._done:
            return
        if self._clip_norm:
            torch.nn.utils.clip_grad_norm_(self.module.parameters(), self._clip_norm)
        for group in self.optimiser.param_groups:
            group["lr"] = learning_rate
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)

    def full_weights(self) -> AbstractContextManager[None]:
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
    """This process's rank among `world` ranks, which share the recipe's batch.

    `mean` averages losses by name over all ranks, for the log.
    """

    rank: int = 0
    world: int = 1
    mean: Callable[[dict[str, float]], dict[str, float]] = _unchanged

    def shard(self, batch: NDArray[Any] | list[T]) -> Any:
        """This rank's part of a batch: an array (N, ...), such as int64 indices, or a list, with one entry per pair."""
        return batch[self.rank :: self.world]
