"""Networks that keep little for their backward pass and compute the rest twice."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

from torch import nn
from torch.utils.checkpoint import checkpoint


def recompute(parts: Iterable[nn.Module]) -> None:
    """Let these keep nothing for their backward pass but what they were given (Chen et al. 2016).

    What they learn is equal to the bit. None of them may draw random numbers.
    """
    for part in parts:
        part.forward = partial(checkpoint, part.forward, use_reentrant=False, preserve_rng_state=False)


def pieces(net: nn.Module) -> list[nn.Module]:
    """The layers of a generator's `net` (a sequence, or a few of them), one after another."""
    if isinstance(net, nn.Sequential):
        return [*net]
    return [layer for part in net.children() if isinstance(part, nn.Sequential) for layer in part]
