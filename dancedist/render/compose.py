"""Film frames from the network's pictures: enlarged, with the background's detail and the face added."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from dancedist.arrays import Rgb
from dancedist.bundle.bundle import Bundle
from dancedist.render.face import FaceResidual


@dataclass(frozen=True, eq=False)
class Picture:
    """The network's output for one frame, at the network's size.

    `rgb`: uint8 RGB (h, w, 3). `alpha`: uint8 (h, w), 0 where the background shows, 255 where the dancer is painted.
    `state`: float32 (1, 3, h, w) in [-1, 1], what the next frame sees, with the face in it. `face`: what the FaceGAN
    adds, at a size of its own.
    """

    rgb: Rgb
    alpha: NDArray[np.uint8]
    state: Tensor
    face: FaceResidual | None = None


class FrameComposer:
    """Enlarge pictures to frames of the target's size.

    A small network loses the background's fine detail, which the bundle holds at full size: what enlarging loses of
    the background is added where the network painted nothing. A moving background is a blur and has no detail to add.
    """

    def __init__(self, bundle: Bundle) -> None:
        self.letterbox, self.detail = bundle.letterbox, bundle.detail

    def __call__(self, picture: Picture) -> Rgb:
        """Return the film frame, uint8 RGB (H, W, 3)."""
        frame = self.letterbox.to_frame(picture.rgb).astype(np.float32)
        if self.detail is not None:
            background_share = 1 - self.letterbox.to_frame(picture.alpha).astype(np.float32) / 255
            frame += background_share[..., None] * self.detail
        if picture.face is not None:
            picture.face.add_to_frame(frame)
        return np.asarray(frame.round().clip(0, 255), np.uint8)
