"""Types of arrays and boxes that are used in many modules."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

# One picture (H, W, 3) or several (N, H, W, 3) in RGB order, 0 to 255.
Rgb = NDArray[np.uint8]
Floats = NDArray[np.float32]
# (x0, y0, x1, y1) in px; pixel centres are at whole numbers.
Box = tuple[float, float, float, float]
