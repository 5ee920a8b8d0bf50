"""Errors of one video, training or render: recorded as rows, not raised."""

from __future__ import annotations

from dataclasses import dataclass

from dancedist.errors import DancedistError


class NameTaken(DancedistError):
    """Another video has the same name: its results would be overwritten."""

    slug = "name-taken"


class VideoChanged(DancedistError):
    """A video that changed after it was listed."""

    slug = "video-changed"


class WorkerLost(DancedistError):
    """Work whose process died in every attempt."""

    slug = "worker-lost"


class WorkersUnfit(DancedistError):
    """Workers that do not start, or whose inference differs from the job's."""

    slug = "workers-unfit"


class OutOfMemory(DancedistError):
    """A training or render that needs more GPU or main memory than its worker has."""

    slug = "out-of-memory"


class Unexpected(DancedistError):
    """A bug in this code, hit by one video."""

    slug = "unexpected"


@dataclass(frozen=True, slots=True)
class ErrorRecord:
    """One row of errors.parquet; `start_frame` and `stop_frame` are set for an error of one segment."""

    name: str
    uri: str
    slug: str
    message: str
    start_frame: int | None = None
    stop_frame: int | None = None

    @classmethod
    def from_error(cls, error: DancedistError, name: str, uri: str, *frames: int) -> ErrorRecord:
        """Row of an error: of the whole video, or of the frames [start, stop)."""
        return cls(name, uri, error.slug, str(error), *frames)
