"""Where a dancer stands and how tall he is there: what the ICCV paper's global normalization needs to know."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from dancedist.errors import FileInvalid, NoDancer
from dancedist.pose.sequence import PoseSequence
from dancedist.recipe import RetargetRecipe

STATS_VERSION = 1
# A bin is this part of the frame's longer side: 1/64 px in a frame of 1024. A video scaled with its dancer
# falls into the same bins.
BINS_PER_SIDE = 1 << 16
MIN_SCORE = 0.3
# Longest time in the air that is taken for a jump and not for a step back: a jump of 0.8 m.
AIR_S = 0.8
CONTACT_SIGMA_S = 0.1
# Height grows with nearness by (person's height / camera's height) px a px of the ground; no camera is lower
# than a third of the person. A larger difference is a bent knee at the end of the range.
MAX_HEIGHT_SLOPE = 3.0


@dataclass(frozen=True)
class DepthRange:
    """What eqs. 7-9 use, px: ground heights y (down positive), figure heights there, and the median of x."""

    median_y: float
    close_y: float
    far_y: float
    close_height: float
    far_height: float
    median_x: float

    @property
    def length(self) -> float:
        """Px between far and close."""
        return self.close_y - self.far_y

    @property
    def middle_y(self) -> float:
        """Px, the middle between far and close."""
        return (self.close_y + self.far_y) / 2

    def height_at(self, y: float) -> float:
        """Figure height, px, of the dancer standing at y, linear between far and close."""
        part = (y - self.far_y) / self.length if self.length > 0 else 0.0
        return self.far_height + part * (self.close_height - self.far_height)


@dataclass(frozen=True)
class RetargetStats:
    """Histograms of one dancer, in bins of `max(size) / BINS_PER_SIDE` px; merged by addition, exactly.

    `depth` counts frames by (ground height, figure height), the latter 0 where it cannot be told; `x` counts
    them by the middle of the ankles. `size` is (width, height) px of the frames.
    """

    topology: str
    size: tuple[int, int]
    depth: Counter[tuple[int, int]]
    x: Counter[int]

    @classmethod
    def of(cls, poses: PoseSequence) -> RetargetStats:
        """Count the frames in which an ankle is seen."""
        ankles = _seen(poses, "left_ankle", "right_ankle")
        known = np.isfinite(ankles[..., 1]).any(axis=1)
        ground, height = ground_contact(poses)[known], figure_height(poses)[known]
        x = _nan_reduce(np.nanmean, ankles[known, :, 0])
        to_bins = BINS_PER_SIDE / max(poses.size)
        y_bins, h_bins, x_bins = (np.rint(np.nan_to_num(v) * to_bins).astype(np.int32) for v in (ground, height, x))
        # Counted by numpy: of an hour's frames, Python's numbers would take more room than the poses do.
        depth, times = np.unique(np.stack([y_bins, h_bins], axis=1), axis=0, return_counts=True)
        xs, x_times = np.unique(x_bins, return_counts=True)
        by_depth = {(y, h): n for (y, h), n in zip(depth.tolist(), times.tolist(), strict=True)}
        by_x = dict(zip(xs.tolist(), x_times.tolist(), strict=True))
        return cls(poses.topology.name, poses.size, Counter(by_depth), Counter(by_x))

    def __add__(self, other: RetargetStats) -> RetargetStats:
        """Statistics of both: of one dancer, filmed in frames of one size."""
        assert (self.topology, self.size) == (other.topology, other.size), (self, other)
        return RetargetStats(self.topology, self.size, self.depth + other.depth, self.x + other.x)

    def derive(self, recipe: RetargetRecipe) -> DepthRange:
        """Median, close, far (the paper's definitions; alpha and the height band are the recipe's).

        Raises NoDancer where no frame shows an ankle or none shows head and ankles.
        """
        bin_px = max(self.size) / BINS_PER_SIDE
        rows = np.array([(y, h, n) for (y, h), n in sorted(self.depth.items())], np.int64).reshape(-1, 3)
        if not len(rows) or not rows[:, 1].any():
            raise NoDancer("cannot be normalised", expected="frames with head and ankles", got="none")
        y = rows[:, 0].astype(np.float64) * bin_px
        median, close = float(np.median(np.repeat(y, rows[:, 2]))), float(y.max())
        far = _far(y, median, close, recipe)
        upright = np.asarray(rows[rows[:, 1] > 0, :2] * bin_px, np.float64)
        reach_px = recipe.height_band * (close - far)
        far_height = _height_near(upright, far, reach_px)
        close_height = max(far_height, _height_near(upright, close, reach_px))
        xs = sorted(self.x.items())
        median_x = float(np.median(np.repeat([b for b, _ in xs], [n for _, n in xs]))) * bin_px
        return DepthRange(median, close, far, close_height, far_height, median_x)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
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
            raise FileInvalid("retarget statistics cannot be used", expected=str(expected), got=str(got))
        width, height = data["size"]
        depth = Counter({(y, h): n for y, h, n in data["depth"]})
        return cls(data["topology"], (width, height), depth, Counter(dict(data["x"])))


def ground_contact(poses: PoseSequence) -> NDArray[np.float64]:
    """(T,) px, height in the image of the ground under the dancer, down positive; NaN where no ankle is ever seen.

    The lower ankle, its dips of up to AIR_S filled (a grey closing: jumps vanish, steps in depth stay), smoothed.
    Frames without ankles are interpolated.
    """
    lower = _nan_reduce(np.nanmax, _seen(poses, "left_ankle", "right_ankle")[..., 1])
    known = np.flatnonzero(np.isfinite(lower))
    if not len(known):
        return np.full(len(poses), np.nan)
    fps = float(poses.fps)
    steady = ndimage.median_filter(np.interp(np.arange(len(poses)), known, lower[known]), 5, mode="nearest")
    window = 2 * round(AIR_S * fps / 2) + 1
    # The edges are repeated by hand: scipy's closing treats the two passes' edges differently.
    closed = ndimage.grey_closing(np.pad(steady, window, mode="edge"), window)[window:-window]
    return np.asarray(ndimage.gaussian_filter1d(closed, CONTACT_SIGMA_S * fps, mode="nearest"), np.float64)


def figure_height(poses: PoseSequence) -> NDArray[np.float64]:
    """(T,) px from the top of the head (the nose where the layout has no top) down to the lower ankle.

    The figure's height only in an upright pose: its largest values count, so single frames are smoothed away.
    NaN where unseen or upside down.
    """
    head = "head_top" if "head_top" in poses.topology.index else "nose"
    lower = _nan_reduce(np.nanmax, _seen(poses, "left_ankle", "right_ankle")[..., 1])
    height = lower - _seen(poses, head)[:, 0, 1]
    known = np.isfinite(height)
    # The median of 5 frames, absent ones counting as small: a lone spike never survives.
    steady = ndimage.median_filter(np.where(known, height, 0.0), 5, mode="nearest")
    return np.where(known & (steady > 0), steady, np.nan)


def _far(y: NDArray[np.float64], median: float, close: float, recipe: RetargetRecipe) -> float:
    """min{y : 0 < median - y < alpha (close - median)}, px; the median where there is none.

    Where the dancer went on beyond that edge without a gap, it is the edge itself: he passed it between two
    frames, and which of them was counted must not turn on a hair.
    """
    edge = median - recipe.alpha * (close - median)
    far = float(y[(y < median) & (y > edge)].min(initial=median))
    beyond = y[y <= edge]
    return edge if len(beyond) and far - beyond.max() <= recipe.height_band * (close - far) else far


def _height_near(rows: NDArray[np.float64], y: float, reach_px: float) -> float:
    """Largest figure height, px, within `reach_px` of y; rows are (R, 2) pairs of ground and figure height.

    It may come out too small (nobody stood upright there), hardly too large: so it is at least what the steepest
    perspective makes of the heights further off.
    """
    beyond = np.maximum(np.abs(rows[:, 0] - y) - reach_px, 0.0)
    return float((rows[:, 1] - MAX_HEIGHT_SLOPE * beyond).max())


def _seen(poses: PoseSequence, *names: str) -> NDArray[np.float64]:
    """(T, N, 2) px, NaN where a point is absent."""
    rows = [poses.topology.index[n] for n in names]
    seen = (poses.score[:, rows] >= MIN_SCORE) & np.isfinite(poses.xy[:, rows]).all(axis=2)
    return np.where(seen[..., None], poses.xy[:, rows], np.nan).astype(np.float64)


def _nan_reduce(how: Any, values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Along the last axis, NaN where all of it is, without numpy's warning about that."""
    out = np.full(values.shape[:-1], np.nan)
    some = np.isfinite(values).any(axis=-1)
    out[some] = how(values[some], axis=-1)
    return out
