"""Where two chunks meet: how far the same frame differs between them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dancedist.metrics.image import psnr, window
from dancedist.pose.sequence import PoseSequence
from dancedist.pose.topology import Topology
from dancedist.render.chunk import last_present
from dancedist.skeleton.face import Box, body_box

Rgb = NDArray[np.uint8]
# Below it a seam may be seen: its later chunk is rendered again with twice the warm-up, and at last cross-faded.
SEAM_DB = 40.0
# Part of the box's longer side that is added to each side of it: hair, hands and cloth are in it.
_DILATED = 0.1


@dataclass(frozen=True)
class Seam:
    """`frame` is the later chunk's first.

    `psnr_db`: of that frame as both chunks rendered it, in the dancer's box, before encoding. `change_db`: of that
    box from the frame before to it, in the earlier chunk's rendering: what moves there anyway.
    """

    frame: int
    psnr_db: float
    change_db: float
    faded: bool = False

    @property
    def shows(self) -> bool:
        """Whether it may be seen."""
        return self.psnr_db < SEAM_DB and not self.faded


def dancer_box(
    xy: NDArray[np.float32], score: NDArray[np.float32], topology: Topology, size: tuple[int, int]
) -> Box | None:
    """The dilated box of a dancer in a picture of `size`: xy (K, 2) px, score (K,)."""
    return body_box(xy, score, topology, size, margin=_DILATED)


def measure_seam(poses: PoseSequence, frame: int, before: Rgb, earlier: Rgb, later: Rgb) -> Seam:
    """`before`, `earlier`: frames `frame` - 1 and `frame` of the earlier chunk; `later`: `frame` of the later one.

    All uint8 (H, W, 3), losslessly kept; `poses` in px of them.
    """
    i = int(last_present(poses)[frame])
    box = dancer_box(poses.xy[i], poses.score[i], poses.topology, poses.size)
    return Seam(frame, psnr_in_box(earlier, later, box), psnr_in_box(before, earlier, box))


def psnr_in_box(a: Rgb, b: Rgb, box: Box | None) -> float:
    """dB, 100 where they are equal; of all of the picture where no dancer is seen in it."""
    seen = window(box, *a.shape[:2]) or (slice(None), slice(None))
    return float(psnr(a[seen][None], b[seen][None])[0])
