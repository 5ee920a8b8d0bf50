"""Everybody in a segment of a film, and the bytes that hold them."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from dancedist.errors import FileInvalid
from dancedist.pose.runtime import Floats


@dataclass(frozen=True, eq=False)
class People:
    """All persons of T frames in P columns; a column may hold one person after another.

    `xy` float32 (T, P, K, 2) px, `score` float32 (T, P, K) in [0, 1], `box` float32 (T, P, 4) px (left, top,
    right, bottom), `track` int32 (T, P): the number of the person within the segment. Nobody: NaN, 0, NaN, -1.
    `missing` (T,): frames that could not be decoded.
    """

    xy: Floats
    score: Floats
    box: Floats
    track: NDArray[np.int32]
    missing: NDArray[np.bool_]

    @classmethod
    def nobody(cls, frames: int, columns: int, keypoints: int) -> People:
        """Frames that hold nobody yet."""
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
        """The same bytes for the same people."""
        return save({f.name: np.ascontiguousarray(getattr(self, f.name)) for f in fields(self)})

    @classmethod
    def from_bytes(cls, data: bytes, file: str) -> People:
        """Inverse of `to_bytes`; raises FileInvalid, which names `file`."""
        try:
            return cls(**load(data))
        except (SafetensorError, KeyError, TypeError, ValueError) as error:
            raise FileInvalid("is no segment of people", file=file, expected="safetensors", got=str(error)) from error
