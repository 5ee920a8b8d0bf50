"""Seams between chunks: how much the same frame differs between the two chunks that meet there."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dancedist.arrays import Box, Rgb
from dancedist.metrics.crop import crop_slices
from dancedist.metrics.image import psnr
from dancedist.pose.sequence import PoseSequence
from dancedist.pose.topology import Topology
from dancedist.render.chunk import last_present
from dancedist.skeleton.face import body_box

# Below it a seam may be visible: the later chunk is rendered again with twice the warm-up, and finally cross-faded.
SEAM_DB = 40.0
# Part of the box's longer side that is added on each side, for hair, hands and cloth.
_DILATED = 0.1


@dataclass(frozen=True)
class Seam:
    """Measurement of one seam; `frame` is the later chunk's first frame.

    `psnr_db`: PSNR between both chunks' rendering of that frame, in the dancer's box, before encoding. `change_db`:
    PSNR between that frame and the one before it in the earlier chunk, in the same box: how much moves there anyway.
    """

    frame: int
    psnr_db: float
    change_db: float
    faded: bool = False

    @property
    def visible(self) -> bool:
        """Whether a viewer may see the seam: under SEAM_DB and not cross-faded."""
        return self.psnr_db < SEAM_DB and not self.faded


def dancer_box(
    xy: NDArray[np.float32], score: NDArray[np.float32], topology: Topology, size: tuple[int, int]
) -> Box | None:
    """The dilated box of a dancer in a picture of `size` px: xy float32 (K, 2) px, score float32 (K,)."""
    return body_box(xy, score, topology, size, margin=_DILATED)


def measure_seam(poses: PoseSequence, frame: int, before: Rgb, earlier: Rgb, later: Rgb) -> Seam:
    """Measure the seam at `frame`, the later chunk's first frame.

    `before`, `earlier`: frames `frame` - 1 and `frame` as the earlier chunk has them; `later`: `frame` as the later
    chunk has it. All uint8 RGB (H, W, 3), before encoding; `poses` in px of them.
    """
    i = int(last_present(poses)[frame])
    box = dancer_box(poses.xy[i], poses.score[i], poses.topology, poses.size)
    return Seam(frame, psnr_in_box(earlier, later, box), psnr_in_box(before, earlier, box))


def psnr_in_box(a: Rgb, b: Rgb, box: Box | None) -> float:
    """PSNR in dB of two frames, uint8 RGB (H, W, 3), inside `box`; 100 if they are equal.

    The whole frame is compared if there is no box or too little of it is inside the frame.
    """
    crop = crop_slices(box, *a.shape[:2]) or (slice(None), slice(None))
    return float(psnr(a[crop][None], b[crop][None])[0])
