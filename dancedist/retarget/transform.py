"""Map source poses into the target's frame: the ICCV paper's global normalization (eqs. 7-9)."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from dancedist.errors import FileInvalid, Notice
from dancedist.pose.sequence import MIN_SCORE, PoseSequence
from dancedist.recipe.fingerprint import fingerprint
from dancedist.recipe.schema import RetargetRecipe
from dancedist.retarget.ground_contact import ground_contact
from dancedist.retarget.stats import DepthRange, RetargetStats

# Limits of the extrapolated scale, as factors of the smallest and the largest scale between far and close.
_SCALE_LIMITS = (0.5, 2.0)
# Fraction of keypoints outside the frame above which there is a notice.
_MAX_OUTSIDE = 0.02
# Percentiles of x that bound the dance.
_DANCE_RANGE = (0.5, 99.5)


def retarget(
    source: PoseSequence,
    source_stats: RetargetStats,
    target_stats: RetargetStats,
    recipe: RetargetRecipe,
    target_size: tuple[int, int],
) -> PoseSequence:
    """Map the source's poses to the target's body and frame: the same (T, K) keypoints and scores, px of its frame.

    Each pose is scaled about its ground contact by c and placed on the target's ground (eqs. 7, 8). c is the target's
    height divided by the source's; it is computed at far and close and interpolated linearly between them (eq. 9). x is
    scaled by c about the medians of x, or about the frames' centres if `recipe.align_x` is off. A dance that would
    leave the frame on one side, with space on the other, is shifted as a whole.

    Depth ranges are compared in body heights. If the source's is smaller than the target's, only the middle part of the
    target's range is used, in the same proportion; without movement in depth, the source is placed at its middle.

    Raises FileInvalid if source and target have different keypoint layouts, NoDancer if one of them is never visible
    from head to ankles.
    """
    if not source.topology.name == source_stats.topology == target_stats.topology:
        raise FileInvalid(
            "poses have another keypoint layout", expected=target_stats.topology, got=source.topology.name
        )
    assert target_stats.size == tuple(target_size), (target_stats.size, target_size)
    s, t = source_stats.derive(recipe), target_stats.derive(recipe)
    ground = ground_contact(source)

    rate = _ground_rate(s, t)
    t_far, t_close = (t.middle_y + side * rate * s.length / 2 for side in (-1, 1))
    c_far, c_close = t.height_at(t_far) / s.far_height, t.height_at(t_close) / s.close_height
    position = (ground - s.far_y) / s.length if s.length > 0 else np.zeros_like(ground)
    low, high = _SCALE_LIMITS
    scale = np.clip(c_far + position * (c_close - c_far), low * min(c_far, c_close), high * max(c_far, c_close))
    target_ground = t_far + rate * (ground - s.far_y)

    s_x, t_x = (s.median_x, t.median_x) if recipe.align_x else (source_stats.size[0] / 2, target_size[0] / 2)
    xy = np.empty(source.xy.shape, np.float64)
    xy[..., 0] = t_x + scale[:, None] * (source.xy[..., 0] - s_x)
    if recipe.align_x:
        xy[..., 0] += _shift_into_frame_px(xy[..., 0][source.score >= MIN_SCORE], target_size[0])
    xy[..., 1] = target_ground[:, None] + scale[:, None] * (source.xy[..., 1] - ground[:, None])
    mapped = replace(
        source,
        xy=xy.astype(np.float32),
        size=(target_size[0], target_size[1]),
        fingerprint=fingerprint(
            source.fingerprint, recipe, *(json.dumps(p.to_dict()) for p in (source_stats, target_stats))
        ),
    )
    return replace(mapped, notices=source.notices + _outside(mapped))


def _ground_rate(s: DepthRange, t: DepthRange) -> float:
    """Px of the target's ground per px of the source's: the slope of eq. 8, at most the ratio of their heights."""
    by_height = t.height_at(t.middle_y) / s.height_at(s.middle_y)
    return min(t.length / s.length, by_height) if s.length > 0 else by_height


def _shift_into_frame_px(x: NDArray[np.float64], width: int) -> float:
    """Smallest shift, px, that moves the dance's x into the frame; 0 for a dance that is wider than the frame."""
    x = x[np.isfinite(x)]
    if not len(x):
        return 0.0
    low, high = np.percentile(x, _DANCE_RANGE)
    left, right = float(low), float(width - 1 - high)
    if left + right < 0:
        return 0.0
    return max(0.0, -left) - max(0.0, -right)


def _outside(poses: PoseSequence) -> tuple[Notice, ...]:
    """A notice if part of the dance is outside the target's frame."""
    present = (poses.score >= MIN_SCORE) & np.isfinite(poses.xy).all(axis=2)
    outside = present & ((poses.xy < 0) | (poses.xy > np.array(poses.size) - 1)).any(axis=2)
    fraction = outside.sum() / max(1, present.sum())
    if fraction <= _MAX_OUTSIDE:
        return ()
    first = int(np.flatnonzero(outside.any(axis=1))[0])
    return (Notice("outside-frame", f"{fraction:.0%} of the dance is outside the target's frame", first),)
