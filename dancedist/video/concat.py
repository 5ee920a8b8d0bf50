"""Several videos of one dancer, read as if they were one film."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import accumulate
from pathlib import Path

from dancedist.errors import FootageUnfit, Notice
from dancedist.recipe import VideoRecipe, file_sha256
from dancedist.video.probe import Video, probe

# Cameras that keep no constant rate come out at slightly different means; nobody sees the difference in a dance.
SAME_RATE = Fraction(1, 100)


@dataclass(frozen=True, eq=False)
class Reel:
    """Videos of one size and rate, one after the other; the first one's path and rate stand for all."""

    parts: tuple[Video, ...]

    @property
    def path(self) -> Path:
        """Of the first video."""
        return self.parts[0].path

    @property
    def width(self) -> int:
        """Px."""
        return self.parts[0].width

    @property
    def height(self) -> int:
        """Px."""
        return self.parts[0].height

    @property
    def fps(self) -> Fraction:
        """Frames a second."""
        return self.parts[0].fps

    @property
    def frames(self) -> int:
        """Of all videos together."""
        return sum(part.frames for part in self.parts)

    @property
    def duration_s(self) -> float:
        """Of all videos together."""
        return self.frames / float(self.fps)

    @property
    def notices(self) -> tuple[Notice, ...]:
        """Every video's, with its name, at the reel's frames."""
        starts = (0, *self.cuts)
        return tuple(
            n.of_part(p.path.name, start) for p, start in zip(self.parts, starts, strict=True) for n in p.notices
        )

    @property
    def cuts(self) -> tuple[int, ...]:
        """Frames at which another video begins: what lies on either side of one was not filmed in a row."""
        return tuple(accumulate(part.frames for part in self.parts[:-1]))


Footage = Video | Reel


def open_footage(paths: Sequence[Path], limits: VideoRecipe) -> Footage:
    """The video, or the reel of several.

    Raises FootageUnfit where they differ in size or rate, VideoUnreadable, VideoTooLarge.
    """
    assert paths, "no video is named"
    first, *others = parts = tuple(probe(path, limits) for path in paths)
    for part in others:
        alike = abs(part.fps / first.fps - 1) <= SAME_RATE
        if (part.width, part.height) != (first.width, first.height) or not alike:
            raise FootageUnfit(
                "cannot be one target with the other videos: all need one size and one frame rate",
                file=part.path,
                expected=f"{_described(first)} as {first.path}",
                got=_described(part),
            )
    return Reel(parts) if others else first


def spans(footage: Footage, start_frame: int, stop_frame: int) -> Iterator[tuple[Video, int, int]]:
    """The videos that frames [start, stop) lie in, and which of their own frames [first, end) these are."""
    begins = 0
    for part in footage.parts:
        first, end = max(start_frame - begins, 0), min(stop_frame - begins, part.frames)
        if first < end:
            yield part, first, end
        begins += part.frames


def identity(paths: Sequence[Path]) -> tuple[str, str]:
    """Name and SHA-256 of what a target is made of: a file's own, or of several in their order.

    Raises FootageUnfit where one content is named twice: it would be trained on and measured on.
    """
    contents: dict[str, Path] = {}
    for path in paths:
        if (twin := contents.setdefault(file_sha256(path), path)) is not path:
            raise FootageUnfit("is named twice", file=path, expected="every video once", got=f"the same as {twin}")
    name, hashes = ", ".join(path.name for path in paths), list(contents)
    return name, hashes[0] if len(hashes) == 1 else hashlib.sha256("".join(hashes).encode()).hexdigest()


def _described(video: Video) -> str:
    return f"{video.width}x{video.height} at {float(video.fps):.2f} /s"
