"""Map output frames to recorded frames: constant rates are preserved, variable rates become their mean rate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

DEFAULT_FPS = Fraction(25)
MAX_DENOMINATOR = 1001
MAX_DROPPED_FRACTION = 0.1


@dataclass(frozen=True, eq=False)
class Timeline:
    """Frame i is shown at `i / fps` seconds; `shown`, int64 (T,), holds its timestamp in the file.

    `variable`: the recorded rate varies. `repeated` counts frames that are shown again because a recording of
    constant rate lacks some.
    """

    fps: Fraction
    shown: NDArray[np.int64]
    variable: bool = False
    repeated: int = 0


def timeline(pts: NDArray[np.int64], time_base: Fraction, declared: Sequence[Fraction | None]) -> Timeline:
    """Timeline of ascending timestamps `pts`, int64 (N,), in ticks of `time_base` seconds.

    A rate is constant if, at one of the `declared` rates or at the mean rate, every frame is within a tick of its
    time (a few frames may be missing), or within a quarter of a frame. Otherwise each time gets the nearest frame.
    """
    candidates = [f.limit_denominator(MAX_DENOMINATOR) for f in declared if f is not None and 0 < f <= 1000]
    if len(pts) == 1:
        return Timeline(candidates[0] if candidates else DEFAULT_FPS, pts)
    exact_mean = (len(pts) - 1) / (int(pts[-1] - pts[0]) * time_base)
    mean = exact_mean.limit_denominator(MAX_DENOMINATOR) or exact_mean
    rates = [*candidates, mean]
    for fps in rates:
        slots, error_ticks = _slots(pts, fps, time_base)
        period_ticks = float(1 / (fps * time_base))
        dropped = int(slots[-1]) + 1 - len(pts)
        if error_ticks > min(1.01, period_ticks / 4) or np.any(np.diff(slots) < 1):
            continue
        if dropped <= MAX_DROPPED_FRACTION * len(pts):
            return Timeline(fps, _nearest(pts, fps, time_base, int(slots[-1]) + 1), repeated=dropped)
    for fps in rates:
        slots, error_ticks = _slots(pts, fps, time_base)
        if error_ticks * float(fps * time_base) <= 0.25 and np.array_equal(slots, np.arange(len(pts))):
            return Timeline(fps, pts)
    return Timeline(mean, _nearest(pts, mean, time_base, len(pts)), variable=True)


def _slots(pts: NDArray[np.int64], fps: Fraction, time_base: Fraction) -> tuple[NDArray[np.int64], float]:
    """Frame numbers of timestamps at a rate, and the largest distance from a frame's time, ticks."""
    ticks = (pts - pts[0]).astype(np.float64)
    slots = np.rint(ticks * float(fps * time_base))
    return slots.astype(np.int64), float(np.abs(ticks - slots * float(1 / (fps * time_base))).max())


def _nearest(pts: NDArray[np.int64], fps: Fraction, time_base: Fraction, count: int) -> NDArray[np.int64]:
    """The timestamp nearest to each of `count` frame times; the earlier one if two are equally near."""
    times = pts[0] + np.arange(count) * float(1 / (fps * time_base))
    right = np.clip(np.searchsorted(pts, times), 1, len(pts) - 1)
    left = right - 1
    earlier = times - pts[left] <= pts[right] - times
    return np.asarray(np.where(earlier, pts[left], pts[right]), np.int64)
