"""What can go wrong through the user's input, and what is worth telling about a result.

A `DancedistError` is the user's to mend: it has a slug that never changes, names the file, and says what
was expected and what was got. A broken invariant of our own is an `assert`.
"""

from __future__ import annotations

from dataclasses import dataclass
from os import PathLike, fspath
from typing import ClassVar


class DancedistError(Exception):
    """Input that cannot be used. `str()` is one readable line."""

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
        told = "; ".join(d for d in details if d)
        where = f"{self.file}: " if self.file else ""
        return f"{where}{self.message}" + (f" ({told})" if told else "")

    def __reduce__(self) -> tuple[object, ...]:
        return (_rebuild, (type(self), self.message, self.file, self.expected, self.got))


def _rebuild(
    kind: type[DancedistError], message: str, file: str | None, expected: str | None, got: str | None
) -> DancedistError:
    return kind(message, file=file, expected=expected, got=got)


class VideoUnreadable(DancedistError):
    """Not a video, no video stream, or nothing in it decodes."""

    slug = "video-unreadable"


class VideoTooLarge(DancedistError):
    """Beyond the recipe's bounds on pixels, frames or duration."""

    slug = "video-too-large"


class NoDancer(DancedistError):
    """No frame holds a person whose pose can be told."""

    slug = "no-dancer"


class FootageUnfit(DancedistError):
    """A good video, but not one a dancer can be trained on."""

    slug = "footage-unfit"


class RecipeInvalid(DancedistError):
    """A recipe that has unknown keys or values out of range."""

    slug = "recipe-invalid"


class WeightsMissing(DancedistError):
    """Pretrained weights that are neither here nor to be had from here."""

    slug = "weights-missing"


class DiskFull(DancedistError):
    """No room on the disk for what is kept there."""

    slug = "disk-full"


class FileInvalid(DancedistError):
    """A poses file, checkpoint or bundle that does not hold what it should."""

    slug = "file-invalid"


class TrainingDiverged(DancedistError):
    """Losses that are no numbers any more."""

    slug = "training-diverged"


@dataclass(frozen=True)
class Notice:
    """A warning that travels with a result: what degraded, and from which frame on (None: the whole)."""

    slug: str
    message: str
    frame: int | None = None

    def of_part(self, name: str, start_frame: int) -> Notice:
        """The same about a part, called `name`, of something longer in which it starts at `start_frame`."""
        return Notice(self.slug, f"{name}: {self.message}", None if self.frame is None else start_frame + self.frame)

    def __str__(self) -> str:
        return self.message if self.frame is None else f"frame {self.frame}: {self.message}"
