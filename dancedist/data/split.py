"""A film's blocks: what is trained on, what is looked at meanwhile, what is measured."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from dancedist.recipe import DataRecipe


@dataclass(frozen=True)
class Split:
    """Contiguous blocks of frames [start, stop) with gaps between them."""

    train: range
    validation: range
    test: range


def split_by_time(frames: int, fps: Fraction, recipe: DataRecipe) -> Split:
    """Train first, then validation, then test at the end; `gap_s` is left out before each of the latter two.

    In a film so short that the gaps would eat it, a gap is a twentieth of it.
    """
    gap = round(min(recipe.gap_s * float(fps), frames / 20))
    test = range(frames - max(2, round(frames * recipe.test_fraction)), frames)
    stop = test.start - gap
    validation = range(stop - max(2, round(frames * recipe.validation_fraction)), stop)
    return Split(range(0, max(0, validation.start - gap)), validation, test)
