"""Errors in the user's input, and notices about a result.

A `DancedistError` can be fixed by the user: it has a stable slug, names the file, and says what was expected and what
was found. Violated invariants of the code itself are `assert`s.
"""

from __future__ import annotations

from dataclasses import dataclass
from os import PathLike, fspath
from typing import ClassVar


class DancedistError(Exception):
    """Base of all errors in the user's input. `str()` is one line: "file: message (expected ...; got ...)"."""

    slug: ClassVar[str] = "error"

    def __init__(
        self,
        message: str,
        *,
        file: str | PathLike[str] | None = None,
        expected: str | None = None,
        got: str | None = None,
    ) -> None:
        self.message, self.expected, self.got = message, expected, got
        self.file = None if file is None else fspath(file)
        super().__init__(message, self.file, expected, got)

    def __str__(self) -> str:
        details = [f"expected {self.expected}" if self.expected else "", f"got {self.got}" if self.got else ""]
        comparison = "; ".join(d for d in details if d)
        prefix = f"{self.file}: " if self.file else ""
        return f"{prefix}{self.message}" + (f" ({comparison})" if comparison else "")

    def __reduce__(self) -> tuple[object, ...]:
        return (_rebuild, (type(self), self.message, self.file, self.expected, self.got))


def _rebuild(
    kind: type[DancedistError], message: str, file: str | None, expected: str | None, got: str | None
) -> DancedistError:
    return kind(message, file=file, expected=expected, got=got)


class VideoUnreadable(DancedistError):
    """The file is not a video, has no video stream, or none of its frames can be decoded."""

    slug = "video-unreadable"


class VideoTooLarge(DancedistError):
    """The video exceeds the recipe's limits on pixels, frames or duration."""

    slug = "video-too-large"


class NoDancer(DancedistError):
    """No frame shows a person whose pose can be estimated."""

    slug = "no-dancer"


class FootageUnfit(DancedistError):
    """The video is readable, but not suitable for training a dancer."""

    slug = "footage-unfit"


class RecipeInvalid(DancedistError):
    """The recipe has unknown keys or values out of range."""

    slug = "recipe-invalid"


class WeightsMissing(DancedistError):
    """Pretrained weights are not installed and cannot be downloaded."""

    slug = "weights-missing"


class DiskFull(DancedistError):
    """The disk has too little free space."""

    slug = "disk-full"


class FileInvalid(DancedistError):
    """A poses file, checkpoint or bundle is invalid, incomplete or altered."""

    slug = "file-invalid"


class TrainingDiverged(DancedistError):
    """Losses are no longer finite."""

    slug = "training-diverged"


@dataclass(frozen=True)
class Notice:
    """A warning attached to a result: what is degraded, and from which frame on (None: all of it)."""

    slug: str
    message: str
    frame: int | None = None

    def of_part(self, name: str, start_frame: int) -> Notice:
        """The same notice for a longer video in which this one is a part `name` that starts at `start_frame`."""
        return Notice(self.slug, f"{name}: {self.message}", None if self.frame is None else start_frame + self.frame)

    def __str__(self) -> str:
        return self.message if self.frame is None else f"frame {self.frame}: {self.message}"
