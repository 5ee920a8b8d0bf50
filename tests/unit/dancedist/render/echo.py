"""A dancer that settles at a known rate."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from dancedist.bundle.bundle import Bundle, load_bundle
from dancedist.recipe.schema import Recipe
from tests.unit.dancedist.bundle.test_bundle import make_bundle


class Echo(nn.Module):
    """y_t = keeps * y_{t-1} + (1 - keeps) * figure: the difference to another start shrinks by `keeps` per frame."""

    predicts_mask = False

    def __init__(self, keeps: float) -> None:
        super().__init__()
        self.keeps = nn.Parameter(torch.tensor(keeps))

    def paint(self, figure: Tensor, last: Tensor, _: Tensor | None = None) -> tuple[Tensor, Tensor]:
        picture = self.keeps * last + (1 - self.keeps) * figure
        return picture, torch.ones_like(picture[:, :1])


def echo(folder: Path, recipe: Recipe, keeps: float) -> Bundle:
    make_bundle(folder / "ann", recipe)
    bundle = load_bundle(folder / "ann")
    generator = Echo(keeps)
    return replace(bundle, generator=generator, background=None)  # type: ignore[arg-type]
