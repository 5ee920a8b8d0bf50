"""The crops on which pictures are compared."""

from __future__ import annotations

from math import floor

import numpy as np

from dancedist.arrays import Box

# Size of SSIM's window: it is undefined on smaller crops.
MIN_CROP_PX = 11


def crop_slices(box: Box | None, height: int, width: int) -> tuple[slice, slice] | None:
    """Rows and columns of the pixels that `box` (x0, y0, x1, y1) px touches inside the picture.

    None if there is no box, it is not finite, or less than 11 px of a side lies inside the picture.
    """
    if box is None or not np.isfinite(box).all():
        return None
    x0, y0 = max(0, floor(box[0])), max(0, floor(box[1]))
    x1, y1 = min(width, -floor(-box[2])), min(height, -floor(-box[3]))
    return (slice(y0, y1), slice(x0, x1)) if min(x1 - x0, y1 - y0) >= MIN_CROP_PX else None
