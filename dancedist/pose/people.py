"""All persons in a segment of a video, and their serialisation."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from dancedist.arrays import Floats
from dancedist.errors import FileInvalid


@dataclass(frozen=True, eq=False)
class People:
    """All persons in T frames, in P columns; a column may hold different persons at different times.

    `xy` float32 (T, P, K, 2) px, `score` float32 (T, P, K) in [0, 1], `box` float32 (T, P, 4) px (left, top,
    right, bottom), `track` int32 (T, P): the person's number within the segment. An empty cell holds NaN, 0, NaN, -1.
    `missing` bool (T,): frames that could not be decoded.
    """

    xy: Floats
    score: Floats
    box: Floats
    track: NDArray[np.int32]
    missing: NDArray[np.bool_]

    @classmethod
    def empty(cls, frames: int, columns: int, keypoints: int) -> People:
        """Frames without persons."""
        return cls(
            np.full((frames, columns, keypoints, 2), np.nan, np.float32),
            np.zeros((frames, columns, keypoints), np.float32),
            np.full((frames, columns, 4), np.nan, np.float32),
            np.full((frames, columns), -1, np.int32),
            np.zeros(frames, np.bool_),
        )

    def __len__(self) -> int:
        return len(self.xy)

    def to_bytes(self) -> bytes:
        """Serialise as safetensors; equal people give equal bytes."""
        return save({f.name: np.ascontiguousarray(getattr(self, f.name)) for f in fields(self)})

    @classmethod
    def from_bytes(cls, data: bytes, file: str) -> People:
        """Inverse of `to_bytes`. Raises FileInvalid, which names `file`, for any other bytes."""
        try:
            return cls(**load(data))
        except (SafetensorError, KeyError, TypeError, ValueError) as error:
            message = "is not a segment of people"
            raise FileInvalid(message, file=file, expected="safetensors", got=str(error)) from error
