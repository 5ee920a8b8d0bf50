from __future__ import annotations

import torch
from torch import Tensor

from dancedist.models.activation_checkpointing import pieces, recompute
from dancedist.models.generator import build_generator
from dancedist.recipe import parse_recipe


def learnt(*stages: str, twice: bool) -> tuple[int, list[Tensor]]:
    """Bytes kept between the passes, and the gradients, of a generator that draws two frames in a row."""
    small = {"filters": 8, "downsamplings": 2, "blocks": 3}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        generator = build_generator(parse_recipe({"stages": stages, "generator": small}))
        figures = torch.randn(2, 1, 3, 64, 64)
    if twice:
        recompute(pieces(generator.net))
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        kept[tensor.data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        second = generator(figures[1], generator(figures[0], torch.zeros_like(figures[0])))
    held = sum(kept.values())
    second.square().mean().backward()
    return held, [p.grad for p in generator.parameters() if p.grad is not None]


def test_what_is_computed_twice_is_equal_and_keeps_little() -> None:
    for stages in (("global",), ("global", "local")):
        much, once = learnt(*stages, twice=False)
        little, again = learnt(*stages, twice=True)
        assert little < 0.5 * much
        assert len(once) == len(again) > 0
        assert all(torch.equal(a, b) for a, b in zip(once, again, strict=True))
