"""Which frames are rendered together."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Chunk:
    """Frames [start, stop) to keep; `warm_up` frames before them are rendered and dropped."""

    start: int
    stop: int
    warm_up: int = 0

    def __post_init__(self) -> None:
        assert 0 <= self.warm_up <= self.start < self.stop, self


def plan(frames: int) -> tuple[Chunk, ...]:
    """One chunk, for now: the generator sees its own last frame, so that frames are rendered one after another."""
    return (Chunk(0, frames),) if frames else ()
