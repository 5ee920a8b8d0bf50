"""Blocks of a video: for training, for samples during training, and for the final test."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from dancedist.recipe.schema import DataRecipe


@dataclass(frozen=True)
class Split:
    """Contiguous blocks of frames [start, stop) with gaps between them."""

    train: range
    validation: range
    test: range


def split_by_time(frames: int, fps: Fraction, recipe: DataRecipe) -> Split:
    """Split a video into training, validation and test block, in this order, with a gap of `gap_s` before each.

    In a short video a gap is at most a twentieth of the frames.
    """
    gap = round(min(recipe.gap_s * float(fps), frames / 20))
    test = range(frames - max(2, round(frames * recipe.test_fraction)), frames)
    stop = test.start - gap
    validation = range(stop - max(2, round(frames * recipe.validation_fraction)), stop)
    return Split(range(0, max(0, validation.start - gap)), validation, test)
