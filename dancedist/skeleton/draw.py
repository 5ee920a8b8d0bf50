"""Draw poses as skeletons, the generator's input (the paper, section 3: pose stick figures)."""

from __future__ import annotations

import colorsys
from functools import cache

import cv2
import numpy as np
from numpy.typing import NDArray

from dancedist.pose.topology import Topology
from dancedist.recipe.schema import FigureRecipe
from dancedist.skeleton.window import Window, full_window

_SUBPIXEL_BITS = 4
# Hue ranges in turns; those of left and right are disjoint, so that the network can distinguish the sides.
_HUES = {"left": (0.5, 0.8), "right": (0.95, 1.15), "middle": (0.22, 0.42)}
_HEAD = frozenset("nose left_eye right_eye left_ear right_ear".split())
# Widths of lines and radii of dots, as fractions of a limb's width.
_FACE_WIDTH, _FINE_WIDTH, _DOT_RADIUS, _FINE_RADIUS = 0.45, 0.3, 0.42, 0.2

Colour = tuple[int, int, int]


def draw_figure(
    xy: NDArray[np.float32],
    score: NDArray[np.float32],
    topology: Topology,
    size: tuple[int, int],
    recipe: FigureRecipe,
    window: Window | None = None,
) -> NDArray[np.uint8]:
    """Draw a skeleton on black, antialiased; the same pose gives the same bytes.

    xy float32 (K, 2) px of the picture, pixel centres at whole numbers; score float32 (K,) in [0, 1]; `size`
    (width, height) px -> uint8 RGB (height, width, 3). Keypoints that are not finite or below `recipe.min_score` are
    not drawn. With a `window`, only that part of the picture: (window.height, window.width, 3).
    """
    window = full_window(size) if window is None else window
    picture = np.zeros((window.height, window.width, 3), np.uint8)
    xy = xy - np.array([window.left, window.top], np.float32)
    present = (score >= recipe.min_score) & np.isfinite(xy).all(axis=1)
    limb_px = recipe.limb_width * max(size)
    order, colours, parts = _limb_style(topology)
    ends = topology.limb_indices[order]
    drawn = present[ends].all(axis=1)
    canvas = (window.width, window.height)
    lines, inside = _clip(np.where(present[:, None], xy, 0.0)[ends], canvas, margin_px=2 * limb_px + 2)
    fixed = np.rint(lines * (1 << _SUBPIXEL_BITS)).astype(int)
    widths = np.maximum(1, np.rint(parts * limb_px)).astype(int).tolist()
    for i in np.flatnonzero(drawn & inside).tolist():
        a, b = fixed[i].tolist()
        cv2.line(picture, a, b, colours[i], widths[i], cv2.LINE_AA, _SUBPIXEL_BITS)
    isolated = present.copy()
    isolated[ends[drawn]] = False
    _draw_dots(picture, xy, present, isolated, topology, limb_px)
    return picture


def _draw_dots(
    picture: NDArray[np.uint8],
    xy: NDArray[np.float32],
    present: NDArray[np.bool_],
    isolated: NDArray[np.bool_],
    topology: Topology,
    limb_px: float,
) -> None:
    """Draw dots for nose, eyes and ears, and for keypoints without a drawn limb."""
    height, width = picture.shape[:2]
    margin_px = 2 * limb_px + 2
    is_head, colours, parts = _dot_style(topology)
    middle = np.array([width, height]) / 2
    near = (np.abs(np.where(present[:, None], xy, 0.0) - middle) < middle + margin_px).all(axis=1)
    for i in np.flatnonzero(present & near & (is_head | isolated)).tolist():
        x, y, r = (round(float(v) * (1 << _SUBPIXEL_BITS)) for v in (*xy[i], max(0.7, parts[i] * limb_px)))
        cv2.circle(picture, (x, y), r, colours[i], cv2.FILLED, cv2.LINE_AA, _SUBPIXEL_BITS)


def _clip(
    lines: NDArray[np.float32], size: tuple[int, int], margin_px: float
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Clip lines (L, 2, 2) px to the picture plus a margin (Liang-Barsky), so that no coordinate overflows.

    Returns the clipped lines and bool (L,): whether any part of each is inside.
    """
    low = np.full(2, -margin_px)
    high = np.array(size) - 1 + margin_px
    start = lines[:, 0].astype(np.float64)
    step = lines[:, 1] - start
    flat = step == 0
    divisor = np.where(flat, 1.0, step)
    at_low, at_high = (low - start) / divisor, (high - start) / divisor
    enter = np.where(flat, 0.0, np.minimum(at_low, at_high)).max(axis=1).clip(min=0.0)
    leave = np.where(flat, 1.0, np.maximum(at_low, at_high)).min(axis=1).clip(max=1.0)
    outside = flat & ((start < low) | (start > high))
    inside = (enter <= leave) & ~outside.any(axis=1)
    clipped = start[:, None] + step[:, None] * np.stack([enter, leave], axis=1)[..., None]
    return clipped.clip(low, high), inside


def _side(*names: str) -> str:
    sides = [side for side in ("left", "right") if any(n.startswith(side) for n in names)]
    return sides[0] if len(sides) == 1 else "middle"


@cache
def _limb_style(topology: Topology) -> tuple[NDArray[np.int64], list[Colour], NDArray[np.float64]]:
    """Drawing order (indices of `topology.limbs`), and in that order the colours and widths.

    Head, feet and legs are drawn first, then trunk and arms, then hands: in dance, an arm is more often in front of
    the body than behind it.
    """

    def is_fine(limb: tuple[str, str]) -> bool:
        return any("_hand_" in n or n.startswith("face_") for n in limb)

    order = sorted(range(len(topology.limbs)), key=lambda i: (any("_hand_" in n for n in topology.limbs[i]), -i))
    limbs = [topology.limbs[i] for i in order]
    groups: dict[tuple[str, bool], list[int]] = {}
    for i, limb in enumerate(limbs):
        groups.setdefault((_side(*limb), is_fine(limb)), []).append(i)
    colours: dict[int, Colour] = {}
    for (side, fine), members in groups.items():
        colours.update(zip(members, _palette(side, len(members), 0.55 if fine else 1.0), strict=True))
    parts = [_FINE_WIDTH if is_fine(m) else _FACE_WIDTH if set(m) <= _HEAD else 1.0 for m in limbs]
    return np.array(order, np.int64), [colours[i] for i in range(len(limbs))], np.array(parts)


@cache
def _dot_style(topology: Topology) -> tuple[NDArray[np.bool_], list[Colour], NDArray[np.float64]]:
    """bool (K,): whether a keypoint is part of the head; dot colours; dot radii as fractions of a limb's width."""
    pale = {"left": (170, 190, 255), "right": (255, 190, 150), "middle": (255, 255, 255)}
    fine = ["_hand_" in n or n.startswith("face_") for n in topology.names]
    is_head = np.array([n in _HEAD for n in topology.names])
    radii = np.where(fine, _FINE_RADIUS, _DOT_RADIUS)
    return is_head, [pale[_side(n)] for n in topology.names], radii


def _palette(side: str, count: int, saturation: float) -> list[Colour]:
    first, last = _HUES[side]
    hues = np.linspace(first, last, count)
    # Neighbouring hues also differ in brightness.
    shades = [colorsys.hsv_to_rgb(h % 1.0, saturation, 1.0 if i % 2 else 0.72) for i, h in enumerate(hues.tolist())]
    return [(round(255 * r), round(255 * g), round(255 * b)) for r, g, b in shades]
