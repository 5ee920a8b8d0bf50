from __future__ import annotations

import torch
from torch import Tensor

from dancedist.models.activation_checkpointing import checkpoint_activations, generator_layers
from dancedist.models.build import build_generator
from dancedist.recipe.loading import parse_recipe


def gradients(*stages: str, checkpointed: bool) -> tuple[int, list[Tensor]]:
    """Bytes stored between the passes, and the gradients, of a generator that draws two frames in a row."""
    small = {"filters": 8, "downsamplings": 2, "blocks": 3}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        generator = build_generator(parse_recipe({"stages": stages, "generator": small}))
        figures = torch.randn(2, 1, 3, 64, 64)
    if checkpointed:
        checkpoint_activations(generator_layers(generator.net))
    stored: dict[int, int] = {}

    def record(tensor: Tensor) -> Tensor:
        stored[tensor.data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(record, lambda tensor: tensor):
        second = generator(figures[1], generator(figures[0], torch.zeros_like(figures[0])))
    stored_bytes = sum(stored.values())
    second.square().mean().backward()
    return stored_bytes, [p.grad for p in generator.parameters() if p.grad is not None]


def test_checkpointed_gradients_are_equal_and_need_less_memory() -> None:
    for stages in (("global",), ("global", "local")):
        plain_bytes, plain = gradients(*stages, checkpointed=False)
        fewer_bytes, recomputed = gradients(*stages, checkpointed=True)
        assert fewer_bytes < 0.5 * plain_bytes
        assert len(plain) == len(recomputed) > 0
        assert all(torch.equal(a, b) for a, b in zip(plain, recomputed, strict=True))
