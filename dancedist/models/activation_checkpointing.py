"""Activation checkpointing: less memory for the backward pass, at the price of a second forward pass."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

from torch import nn
from torch.utils.checkpoint import checkpoint


def checkpoint_activations(modules: Iterable[nn.Module]) -> None:
    """Make modules store only their inputs for the backward pass, and recompute the rest (Chen et al. 2016).

    Gradients are equal to the bit. No module may draw random numbers.
    """
    for module in modules:
        module.forward = partial(checkpoint, module.forward, use_reentrant=False, preserve_rng_state=False)


def generator_layers(net: nn.Module) -> list[nn.Module]:
    """Layers of a generator's `net` in order; `net` is a Sequential or holds several."""
    if isinstance(net, nn.Sequential):
        return [*net]
    return [layer for part in net.children() if isinstance(part, nn.Sequential) for layer in part]
