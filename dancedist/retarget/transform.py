"""Source poses -> the target's space: the ICCV paper's global normalization (eqs. 7-9)."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from dancedist.errors import FileInvalid, Notice
from dancedist.pose.sequence import PoseSequence
from dancedist.recipe import RetargetRecipe, fingerprint
from dancedist.retarget.stats import MIN_SCORE, DepthRange, RetargetStats, ground_contact

# Beyond far the scale is extrapolated, but to no less and no more than these parts of the scales between.
_SCALE_LIMITS = (0.5, 2.0)
_MAX_OUTSIDE = 0.02
# Percentiles of x between which the dance is said to lie.
_DANCE_RANGE = (0.5, 99.5)


def retarget(
    source: PoseSequence,
    source_stats: RetargetStats,
    target_stats: RetargetStats,
    recipe: RetargetRecipe,
    target_size: tuple[int, int],
) -> PoseSequence:
    """Let the source's poses be danced by the target: same (T, K, 2) and scores, px of the target's frame.

    Every figure is scaled about its ground contact by c (eq. 9: the target's height over the source's, linear
    between far and close) and placed at the target's ground (eqs. 7, 8). x is scaled by c about the medians of
    x, or about the frames' middles where `recipe.align_x` is off; a dance that would leave the frame at one side
    with room at the other is moved as a whole. Guard: a source that moves less in depth than
    the target, both in their own heights, uses only a part of the target's range, about its middle; one that
    stays put is placed there.

    Raises FileInvalid where source and target have different keypoint layouts, NoDancer where one of them is
    never seen from head to ankles.
    """
    if not source.topology.name == source_stats.topology == target_stats.topology:
        raise FileInvalid("poses in another layout", expected=target_stats.topology, got=source.topology.name)
    assert target_stats.size == tuple(target_size), (target_stats.size, target_size)
    s, t = source_stats.derive(recipe), target_stats.derive(recipe)
    ground = ground_contact(source)

    rate = _ground_rate(s, t)
    t_far, t_close = (t.middle_y + side * rate * s.length / 2 for side in (-1, 1))
    c_far, c_close = t.height_at(t_far) / s.far_height, t.height_at(t_close) / s.close_height
    part = (ground - s.far_y) / s.length if s.length > 0 else np.zeros_like(ground)
    low, high = _SCALE_LIMITS
    scale = np.clip(c_far + part * (c_close - c_far), low * min(c_far, c_close), high * max(c_far, c_close))
    placed = t_far + rate * (ground - s.far_y)

    s_x, t_x = (s.median_x, t.median_x) if recipe.align_x else (source_stats.size[0] / 2, target_size[0] / 2)
    xy = np.empty(source.xy.shape, np.float64)
    xy[..., 0] = t_x + scale[:, None] * (source.xy[..., 0] - s_x)
    if recipe.align_x:
        xy[..., 0] += _way_into_frame_px(xy[..., 0][source.score >= MIN_SCORE], target_size[0])
    xy[..., 1] = placed[:, None] + scale[:, None] * (source.xy[..., 1] - ground[:, None])
    moved = replace(
        source,
        xy=xy.astype(np.float32),
        size=(target_size[0], target_size[1]),
        fingerprint=fingerprint(
            source.fingerprint, recipe, *(json.dumps(p.to_dict()) for p in (source_stats, target_stats))
        ),
    )
    return replace(moved, notices=source.notices + _outside(moved))


def _ground_rate(s: DepthRange, t: DepthRange) -> float:
    """Px of the target's ground for a px of the source's: eq. 8's slope, but never more than the dancers' sizes say."""
    by_height = t.height_at(t.middle_y) / s.height_at(s.middle_y)
    return min(t.length / s.length, by_height) if s.length > 0 else by_height


def _way_into_frame_px(x: NDArray[np.float64], width: int) -> float:
    """Least shift that brings the dance's x, px, into the frame; 0 for a dance that is too wide for it."""
    x = x[np.isfinite(x)]
    if not len(x):
        return 0.0
    low, high = np.percentile(x, _DANCE_RANGE)
    left, right = float(low), float(width - 1 - high)
    if left + right < 0:
        return 0.0
    return max(0.0, -left) - max(0.0, -right)


def _outside(poses: PoseSequence) -> tuple[Notice, ...]:
    """A notice where part of the dance leaves the target's frame."""
    seen = (poses.score >= MIN_SCORE) & np.isfinite(poses.xy).all(axis=2)
    beyond = seen & ((poses.xy < 0) | (poses.xy > np.array(poses.size) - 1)).any(axis=2)
    part = beyond.sum() / max(1, seen.sum())
    if part <= _MAX_OUTSIDE:
        return ()
    first = int(np.flatnonzero(beyond.any(axis=1))[0])
    return (Notice("outside-frame", f"{part:.0%} of the dance lies outside the target's frame", first),)
