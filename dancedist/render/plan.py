"""Which frames are rendered together."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

# Long enough that warming up is a few percent of it, short enough that a minute is shared out among several.
CHUNK_FRAMES = 180
# Frames that are encoded by themselves: chunks begin where such a group does, so that however a film is cut its packets
# are the same.
GROUP_FRAMES = 60
# Warm-up beyond what the dancer needs to come within 50 dB: encoding makes more of such a difference than is there.
SPARE_FRAMES = 4
# And at least so long: of most chunks the pictures are by then those of the unbroken rendering, to the bit.
WARM_UP_FRAMES = 9
# No more than this part of a chunk is rendered twice, unless the film is shorter than that.
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
    """Chunks of about `chunk_frames` that cover `frames`, each but the first warmed up until the dancer has settled.

    Told from its arguments alone, so that a film is the same however many render it. A dancer that never forgets how
    it began (None) is rendered in one chunk; one that sees no past (0) needs no warm-up.
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
