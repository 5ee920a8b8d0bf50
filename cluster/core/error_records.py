"""What goes wrong with one video is a row, not an exception."""

from __future__ import annotations

from dataclasses import dataclass

from cluster.storage.base import StorageUnavailable
from dancedist.errors import DancedistError


class NameTaken(DancedistError):
    """A video whose results would take the place of another's."""

    slug = "name-taken"


class VideoChanged(DancedistError):
    """A video that is not what it was when it was listed."""

    slug = "video-changed"


class WorkerLost(DancedistError):
    """Work that cost its process every time it was tried."""

    slug = "worker-lost"


class WorkersUnfit(DancedistError):
    """Workers that do not start, or would compute something else than was planned."""

    slug = "workers-unfit"


class OutOfMemory(DancedistError):
    """A training that needs more memory than its worker has, of a GPU or of the machine."""

    slug = "out-of-memory"


class Unexpected(DancedistError):
    """A bug of ours that showed on one video."""

    slug = "unexpected"


class OutputUnavailable(StorageUnavailable):
    """The place for the results does not answer: without it there is no going on."""

    slug = "output-unavailable"


@dataclass(frozen=True, slots=True)
class Fault:
    """One row of errors.parquet; `start_frame` and `stop_frame` where only a segment is concerned."""

    name: str
    uri: str
    slug: str
    message: str
    start_frame: int | None = None
    stop_frame: int | None = None

    @classmethod
    def of(cls, error: DancedistError, name: str, uri: str, *frames: int) -> Fault:
        """The row of an error, of a whole video or of the frames [start, stop)."""
        return cls(name, uri, error.slug, str(error), *frames)
