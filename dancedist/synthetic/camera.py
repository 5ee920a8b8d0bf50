"""A static camera: project points in space to pixels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Camera:
    """A level pinhole camera.

    `focal` and `horizon` (the row of eye level, from the top) are fractions of the picture's height, `centre` is one
    of its width; `distance_m` is the distance to the dancer's mark, `eye_m` the camera's height.
    """

    distance_m: float = 4.6
    eye_m: float = 1.0
    focal: float = 1.75
    horizon: float = 0.55
    centre: float = 0.5

    def project(self, xyz: NDArray[np.floating], size: tuple[int, int]) -> NDArray[np.float32]:
        """Floats (..., 3) metres -> float32 (..., 2) px of a picture of `size` (width, height).

        Pixel centres are at whole numbers.
        """
        scale = self.focal * size[1] / (self.distance_m - xyz[..., 2])
        x = self.centre * size[0] + scale * xyz[..., 0]
        y = self.horizon * size[1] + scale * (self.eye_m - xyz[..., 1])
        return np.stack([x - 0.5, y - 0.5], axis=-1).astype(np.float32)

    def floor_row(self, size: tuple[int, int], depth_m: float) -> float:
        """Row, px, of the floor at `depth_m` from the mark, positive towards the camera."""
        return size[1] * (self.horizon + self.focal * self.eye_m / (self.distance_m - depth_m))
