"""Stacks of frames: one array backed by a file, since frames of a film may take gigabytes."""

from __future__ import annotations

from collections.abc import Iterable
from tempfile import TemporaryFile

import numpy as np

from dancedist.arrays import Rgb


def stacked(frames: Iterable[Rgb | None], count: int) -> Rgb:
    """Copy `count` frames into one array backed by an unnamed file, uint8 RGB (T, H, W, 3).

    None, a frame that does not decode, repeats the frame before, or is black at the start: a frame without pixels has
    no pose, so it is not scored.
    """
    stack: Rgb | None = None
    t = -1
    for t, frame in enumerate(frames):
        if stack is None and frame is not None:
            stack = empty_stack(count, frame.shape)
        if stack is not None:
            stack[t] = stack[t - 1] if frame is None else frame
    assert stack is not None and t == count - 1, (t, count)
    return stack


def empty_stack(count: int, shape: tuple[int, ...]) -> Rgb:
    """Black frames in an unnamed file, uint8 RGB (count, *shape)."""
    # The memory map keeps the deleted file's content.
    with TemporaryFile() as file:
        return np.memmap(file, np.uint8, "w+", shape=(count, *shape))
