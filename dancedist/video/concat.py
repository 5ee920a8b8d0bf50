"""Several videos of one dancer, read as one video."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import accumulate
from pathlib import Path

from dancedist.errors import FootageUnfit, Notice
from dancedist.files import file_sha256
from dancedist.recipe.schema import VideoRecipe
from dancedist.video.probe import Video, probe

# Cameras with a variable rate give slightly different mean rates; a difference of 1% is not visible in a dance.
SAME_RATE = Fraction(1, 100)


@dataclass(frozen=True, eq=False)
class ConcatVideo:
    """Several videos of one size and rate as one; path and rate are those of the first video."""

    parts: tuple[Video, ...]

    @property
    def path(self) -> Path:
        """Path of the first video."""
        return self.parts[0].path

    @property
    def width(self) -> int:
        """Width, px."""
        return self.parts[0].width

    @property
    def height(self) -> int:
        """Height, px."""
        return self.parts[0].height

    @property
    def fps(self) -> Fraction:
        """Frames per second."""
        return self.parts[0].fps

    @property
    def frames(self) -> int:
        """Number of frames of all videos."""
        return sum(part.frames for part in self.parts)

    @property
    def duration_s(self) -> float:
        """Duration of all videos, seconds."""
        return self.frames / float(self.fps)

    @property
    def notices(self) -> tuple[Notice, ...]:
        """Notices of all videos, each with its video's name; frame indices count from the start of the first video."""
        starts = (0, *self.cuts)
        return tuple(
            n.of_part(p.path.name, start) for p, start in zip(self.parts, starts, strict=True) for n in p.notices
        )

    @property
    def cuts(self) -> tuple[int, ...]:
        """Frames at which the next video begins: the frames before and after a cut were not filmed consecutively."""
        return tuple(accumulate(part.frames for part in self.parts[:-1]))


Footage = Video | ConcatVideo


def open_videos(paths: Sequence[Path], limits: VideoRecipe) -> Footage:
    """Open one video, or several videos as one.

    Raises FootageUnfit if they differ in size or rate, VideoUnreadable, VideoTooLarge.
    """
    assert paths, "at least one video is required"
    first, *others = parts = tuple(probe(path, limits) for path in paths)
    for part in others:
        same_rate = abs(part.fps / first.fps - 1) <= SAME_RATE
        if (part.width, part.height) != (first.width, first.height) or not same_rate:
            raise FootageUnfit(
                "does not match the other videos of the target: all need the same size and frame rate",
                file=part.path,
                expected=f"{_description(first)} as {first.path}",
                got=_description(part),
            )
    return ConcatVideo(parts) if others else first


def spans(footage: Footage, start_frame: int, stop_frame: int) -> Iterator[tuple[Video, int, int]]:
    """Split frames [start, stop) into (video, first, end): frames [first, end) of each video that they are in."""
    offset = 0
    for part in footage.parts:
        first, end = max(start_frame - offset, 0), min(stop_frame - offset, part.frames)
        if first < end:
            yield part, first, end
        offset += part.frames


def identity(paths: Sequence[Path]) -> tuple[str, str]:
    """Name and SHA-256 of a target's videos: the file's own, or a combination of all in their order.

    Raises FootageUnfit if two files have the same content: it would be both trained on and evaluated on.
    """
    contents: dict[str, Path] = {}
    for path in paths:
        if (twin := contents.setdefault(file_sha256(path), path)) is not path:
            raise FootageUnfit("is named twice", file=path, expected="every video once", got=f"the same as {twin}")
    name, hashes = ", ".join(path.name for path in paths), list(contents)
    return name, hashes[0] if len(hashes) == 1 else hashlib.sha256("".join(hashes).encode()).hexdigest()


def _description(video: Video) -> str:
    return f"{video.width}x{video.height} at {float(video.fps):.2f} /s"
