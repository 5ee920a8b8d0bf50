"""Which frames are rendered together."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

# Long enough that warming up is a few percent of it, short enough that a minute is shared out among several.
CHUNK_FRAMES = 180
# No more than this part of a chunk is warm-up, unless the film is shorter than that.
_WARM_UP_SHARE = 0.05


@dataclass(frozen=True)
class Chunk:
    """Frames [start, stop) to keep; `warm_up` frames before them are rendered and dropped.

    `tail` frames after them are rendered too: what the seam to the next chunk is measured on.
    """

    start: int
    stop: int
    warm_up: int = 0
    tail: int = 0

    def __post_init__(self) -> None:
        assert 0 <= self.warm_up <= self.start < self.stop and self.tail >= 0, self

    @property
    def frames(self) -> range:
        """All that is rendered for it."""
        return range(self.start - self.warm_up, self.stop + self.tail)

    def warmer(self) -> Chunk:
        """The same with twice the warm-up, or as much as there is before it."""
        return Chunk(self.start, self.stop, min(self.start, max(1, 2 * self.warm_up)), self.tail)


def plan(frames: int, settling_frames: int | None, chunk_frames: int = CHUNK_FRAMES) -> tuple[Chunk, ...]:
    """Chunks of about `chunk_frames` that cover `frames`, each but the first warmed up for `settling_frames`.

    Told from its arguments alone, so that a film is the same however many render it. A dancer that never forgets how
    it began (None) is rendered in one chunk.
    """
    if frames == 0:
        return ()
    if settling_frames is None:
        return (Chunk(0, frames),)
    count = max(1, round(frames / max(chunk_frames, settling_frames / _WARM_UP_SHARE)))
    edges = [round(i * frames / count) for i in range(count + 1)]
    return tuple(Chunk(start, stop, min(settling_frames, start), int(stop < frames)) for start, stop in pairwise(edges))
