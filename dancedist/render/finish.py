"""The network's picture -> a frame of the film, with the stage's detail where the network painted nothing."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from dancedist.bundle.bundle import Bundle
from dancedist.render.face import Face


@dataclass(frozen=True, eq=False)
class Picture:
    """What the network gives for a frame: `rgb` uint8 (h, w, 3), `painted` uint8 (h, w), 0 where the stage shows.

    `whole`: float (1, 3, h, w), what the next frame sees, the face in it. `face`: what the FaceGAN adds, which has a
    size of its own.
    """

    rgb: NDArray[np.uint8]
    painted: NDArray[np.uint8]
    whole: Tensor
    face: Face | None = None


class Finish:
    """Enlarges pictures to frames of the target's size.

    A small network loses the stage's fine detail, which the dancer's bundle has in full: what enlarging loses of
    the stage is added where the network left it unpainted. A stage that moves is a blur, and has none to add.
    """

    def __init__(self, bundle: Bundle) -> None:
        self.fit, self.detail = bundle.fit, bundle.detail

    def __call__(self, picture: Picture) -> NDArray[np.uint8]:
        """-> uint8 (H, W, 3)."""
        frame = self.fit.to_frame(picture.rgb).astype(np.float32)
        if self.detail is not None:
            clear = 1 - self.fit.to_frame(picture.painted).astype(np.float32) / 255
            frame += clear[..., None] * self.detail
        if picture.face is not None:
            picture.face.onto_frame(frame)
        return np.asarray(frame.round().clip(0, 255), np.uint8)
