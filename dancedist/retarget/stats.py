"""Statistics of a dancer's position and height, for the ICCV paper's global normalization."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dancedist.errors import FileInvalid, NoDancer
from dancedist.pose.sequence import PoseSequence
from dancedist.recipe.schema import RetargetRecipe
from dancedist.retarget.ground_contact import ground_contact, keypoints_or_nan, nan_reduce, person_height

STATS_VERSION = 1
# Bins per longer side of the frame: 1/64 px in a frame of 1024 px. A scaled copy of a video gives the same bins.
BINS_PER_SIDE = 1 << 16
# Towards the camera, height grows by (person's height / camera's height) px per px of the ground; no camera is lower
# than a third of the person's height. A larger difference comes from bent knees at the end of the range.
MAX_HEIGHT_SLOPE = 3.0


@dataclass(frozen=True)
class DepthRange:
    """Inputs of eqs. 7-9, px: ground rows y (down positive), the person's height at these, and the median of x."""

    median_y: float
    close_y: float
    far_y: float
    close_height: float
    far_height: float
    median_x: float

    @property
    def length(self) -> float:
        """Distance between far and close, px."""
        return self.close_y - self.far_y

    @property
    def middle_y(self) -> float:
        """Middle between far and close, px."""
        return (self.close_y + self.far_y) / 2

    def height_at(self, y: float) -> float:
        """Height of the dancer, px, when standing at y: linear between far and close."""
        part = (y - self.far_y) / self.length if self.length > 0 else 0.0
        return self.far_height + part * (self.close_height - self.far_height)


@dataclass(frozen=True)
class RetargetStats:
    """Histograms of one dancer, in bins of `max(size) / BINS_PER_SIDE` px; addition merges them exactly.

    `depth` counts frames by (ground row, person's height), with height 0 where it is unknown; `x` counts frames by
    the middle of the ankles. `size` is (width, height) px of the frames.
    """

    topology: str
    size: tuple[int, int]
    depth: Counter[tuple[int, int]]
    x: Counter[int]

    @classmethod
    def of(cls, poses: PoseSequence) -> RetargetStats:
        """Statistics of the frames in which an ankle is present."""
        ankles = keypoints_or_nan(poses, "left_ankle", "right_ankle")
        known = np.isfinite(ankles[..., 1]).any(axis=1)
        ground, height = ground_contact(poses)[known], person_height(poses)[known]
        x = nan_reduce(np.nanmean, ankles[known, :, 0])
        to_bins = BINS_PER_SIDE / max(poses.size)
        y_bins, h_bins, x_bins = (np.rint(np.nan_to_num(v) * to_bins).astype(np.int32) for v in (ground, height, x))
        # np.unique instead of a Counter: for an hour of frames, Python's numbers would take more memory than the poses.
        depth, times = np.unique(np.stack([y_bins, h_bins], axis=1), axis=0, return_counts=True)
        xs, x_times = np.unique(x_bins, return_counts=True)
        by_depth = {(y, h): n for (y, h), n in zip(depth.tolist(), times.tolist(), strict=True)}
        by_x = dict(zip(xs.tolist(), x_times.tolist(), strict=True))
        return cls(poses.topology.name, poses.size, Counter(by_depth), Counter(by_x))

    def __add__(self, other: RetargetStats) -> RetargetStats:
        """Merged statistics of one dancer in frames of one size."""
        assert (self.topology, self.size) == (other.topology, other.size), (self, other)
        return RetargetStats(self.topology, self.size, self.depth + other.depth, self.x + other.x)

    def derive(self, recipe: RetargetRecipe) -> DepthRange:
        """Median, close and far as the paper defines them, with the recipe's alpha and height band.

        Raises NoDancer if no frame has an ankle, or no frame has head and ankles.
        """
        bin_px = max(self.size) / BINS_PER_SIDE
        rows = np.array([(y, h, n) for (y, h), n in sorted(self.depth.items())], np.int64).reshape(-1, 3)
        if not len(rows) or not rows[:, 1].any():
            raise NoDancer("cannot be normalised", expected="frames with head and ankles", got="none")
        y = rows[:, 0].astype(np.float64) * bin_px
        median, close = float(np.median(np.repeat(y, rows[:, 2]))), float(y.max())
        far = _far(y, median, close, recipe)
        upright = np.asarray(rows[rows[:, 1] > 0, :2] * bin_px, np.float64)
        band_px = recipe.height_band * (close - far)
        far_height = _height_near(upright, far, band_px)
        close_height = max(far_height, _height_near(upright, close, band_px))
        xs = sorted(self.x.items())
        median_x = float(np.median(np.repeat([b for b, _ in xs], [n for _, n in xs]))) * bin_px
        return DepthRange(median, close, far, close_height, far_height, median_x)

    def to_dict(self) -> dict[str, Any]:
        """Data for JSON."""
        return {
            "version": STATS_VERSION,
            "topology": self.topology,
            "size": list(self.size),
            "bins_per_side": BINS_PER_SIDE,
            "depth": [[y, h, n] for (y, h), n in sorted(self.depth.items())],
            "x": [[x, n] for x, n in sorted(self.x.items())],
        }

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> RetargetStats:
        """Inverse of `to_dict`. Raises FileInvalid for another version."""
        got = {k: data.get(k) for k in ("version", "bins_per_side")}
        expected = {"version": STATS_VERSION, "bins_per_side": BINS_PER_SIDE}
        if got != expected:
            raise FileInvalid("retarget statistics have another format", expected=str(expected), got=str(got))
        width, height = data["size"]
        depth = Counter({(y, h): n for y, h, n in data["depth"]})
        return cls(data["topology"], (width, height), depth, Counter(dict(data["x"])))


def _far(y: NDArray[np.float64], median: float, close: float, recipe: RetargetRecipe) -> float:
    """min{y : 0 < median - y < alpha (close - median)}, px; the median if there is no such y.

    If the dancer also stands beyond that edge, without a gap in y, the result is the edge itself. Otherwise it would
    depend on the y at which a frame happened to be taken.
    """
    edge = median - recipe.alpha * (close - median)
    far = float(y[(y < median) & (y > edge)].min(initial=median))
    beyond = y[y <= edge]
    return edge if len(beyond) and far - beyond.max() <= recipe.height_band * (close - far) else far


def _height_near(rows: NDArray[np.float64], y: float, band_px: float) -> float:
    """Largest height of the person, px, within `band_px` of y; rows are (R, 2) pairs of ground row and height.

    The heights there may be too small (if the dancer never stood upright there), but hardly too large. So the result
    is at least the heights farther away, reduced by the steepest possible perspective.
    """
    beyond = np.maximum(np.abs(rows[:, 0] - y) - band_px, 0.0)
    return float((rows[:, 1] - MAX_HEIGHT_SLOPE * beyond).max())
