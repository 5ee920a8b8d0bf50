"""Division of a dance into chunks that are rendered independently."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

# Long enough that the warm-up is a few percent of it, short enough that a minute is divided among several workers.
CHUNK_FRAMES = 180
# Frames that are encoded independently (a GOP). Chunks start where a group starts, so that a film's packets do not
# depend on the division.
GROUP_FRAMES = 60
# Warm-up beyond what the dancer needs to come within 50 dB: encoding amplifies small differences.
SPARE_FRAMES = 4
# Minimum warm-up: after it most chunks equal the continuous rendering to the bit.
WARM_UP_FRAMES = 9
# At most this part of a chunk is warm-up, unless the film is shorter than such a chunk.
_WARM_UP_SHARE = 0.05


@dataclass(frozen=True)
class Chunk:
    """Frames [start, stop) of a dance, plus frames that are rendered but not part of the chunk.

    `warm_up` frames before them are rendered and dropped. `tail` frames after them are rendered to measure the seam
    to the next chunk.
    """

    start: int
    stop: int
    warm_up: int = 0
    tail: int = 0

    def __post_init__(self) -> None:
        assert 0 <= self.warm_up <= self.start < self.stop and self.tail >= 0, self

    @property
    def frames(self) -> range:
        """All frames that are rendered for the chunk."""
        return range(self.start - self.warm_up, self.stop + self.tail)

    def warmer(self) -> Chunk:
        """The same chunk with twice the warm-up, or with all frames before it if there are fewer."""
        return Chunk(self.start, self.stop, min(self.start, max(1, 2 * self.warm_up)), self.tail)


def plan(frames: int, settling_frames: int | None, chunk_frames: int = CHUNK_FRAMES) -> tuple[Chunk, ...]:
    """Divide `frames` into chunks of about `chunk_frames`; each but the first is warmed up until the dancer settles.

    Depends on the arguments alone, so that a film is the same for any number of workers. `settling_frames`: None, for
    a dancer that never settles, gives one chunk; 0, for one that sees no past, gives chunks without warm-up.
    """
    if frames == 0:
        return ()
    if settling_frames is None:
        return (Chunk(0, frames),)
    warm_up = max(settling_frames + SPARE_FRAMES, WARM_UP_FRAMES) if settling_frames else 0
    groups = -(-frames // GROUP_FRAMES)
    count = min(groups, max(1, round(frames / max(chunk_frames, (warm_up + 1) / _WARM_UP_SHARE))))
    edges = [*(round(i * groups / count) * GROUP_FRAMES for i in range(count)), frames]
    return tuple(Chunk(start, stop, min(warm_up, start), int(stop < frames)) for start, stop in pairwise(edges))
