"""Draw a performer in any plausible pose of HALPE26, also of another person."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dancedist.pose.topology import HALPE26
from dancedist.synthetic.backdrop import Backdrop, paint
from dancedist.synthetic.cloth import cloth_texture, rgb, shirt_texture
from dancedist.synthetic.head import draw_hair_behind, draw_head, draw_neck
from dancedist.synthetic.performer import Performer
from dancedist.synthetic.shade import Canvas, Image, light, limb, sample, unit_vector

Points = dict[str, NDArray[np.floating]]

# Radii along a limb, metres at girth 1.
_UPPER_ARM = [0.054, 0.056, 0.050, 0.043, 0.039]
_FOREARM = [0.040, 0.043, 0.037, 0.030, 0.026]
_THIGH = [0.086, 0.086, 0.078, 0.068, 0.060]
_SHIN = [0.058, 0.061, 0.056, 0.047, 0.043]


def draw(
    performer: Performer, backdrop: Backdrop, xy: NDArray[np.floating], size: tuple[int, int]
) -> NDArray[np.uint8]:
    """Draw `performer` with joints xy, floats (26, 2) px of HALPE26 -> uint8 RGB (H, W, 3); `size` (width, height) px.

    The picture depends on the joints only, so the same joints give the same bytes. Arms are in front of the body; the
    leg with the higher knee is in front of the other. Without joints (NaN), the result is the backdrop.
    """
    background = paint(backdrop, size)
    if not np.isfinite(xy).all():
        return background.astype(np.uint8)
    at = {name: xy[i].astype(np.float32) for name, i in HALPE26.index.items()}
    canvas = Canvas(background.copy(), np.zeros((size[1], size[0]), np.float32))
    metre = _px_per_metre(performer, at)
    _ground_shadow(canvas, at, metre)
    for side in sorted(("left", "right"), key=lambda s: -float(at[f"{s}_knee"][1])):
        _leg(canvas, performer, at, metre, side)
    _pelvis(canvas, performer, at, metre)
    draw_hair_behind(canvas, performer, at)
    draw_neck(canvas, performer, at, metre)
    _trunk(canvas, performer, at, metre)
    draw_head(canvas, performer, at, metre)
    for side in ("left", "right"):
        _arm(canvas, performer, at, metre, side)
    return np.asarray(np.clip(canvas.rgb + 0.5, 0, 255), np.uint8)


def _px_per_metre(performer: Performer, at: Points) -> float:
    """Pixels per metre of this body, mainly from the bones that are least foreshortened."""
    p = performer.proportions
    bones = [("neck", "hip", p.torso)]
    for s in ("left", "right"):
        bones += [(f"{s}_hip", f"{s}_knee", p.thigh), (f"{s}_knee", f"{s}_ankle", p.shin)]
    ratios = np.array([np.linalg.norm(at[a] - at[b]) / length for a, b, length in bones])
    ratios[0] *= 1.02
    return max(2.0, float(np.mean(ratios**6) ** (1 / 6)))


def _ground_shadow(canvas: Canvas, at: Points, metre: float) -> None:
    feet = np.array([(at[f"{s}_heel"] + at[f"{s}_big_toe"]) / 2 for s in ("left", "right")])
    lower = np.log(np.exp((feet[:, 1] - feet[:, 1].max()) / (0.03 * metre)).sum() / 2)  # smooth maximum
    row = float(feet[:, 1].max()) + (0.03 * float(lower) + 0.05) * metre
    spots = [(feet[0, 0], 0.17, 0.32), (feet[1, 0], 0.17, 0.32), (float(at["hip"][0]), 0.52, 0.38)]
    for x, half_m, depth in spots:
        half = half_m * metre
        window = canvas.window(x - 1.8 * half, row - 0.55 * half, x + 1.8 * half, row + 0.55 * half)
        if window is None:
            continue
        rows, columns, xs, ys = window
        across, down = np.exp(-1.4 * ((xs - x) / half) ** 2), np.exp(-1.4 * ((ys - row) / (0.28 * half)) ** 2)
        canvas.rgb[rows, columns] *= (1 - depth * across * down)[:, :, None]


def _scale(radii: list[float], scale: float) -> list[float]:
    return [r * scale for r in radii]


def _cloth_end(reach: float, bare: NDArray[np.floating]) -> tuple[float, Image] | None:
    """Where cloth ends on a limb, as a fraction of its length, and the colour below; None: cloth covers all of it."""
    return None if reach >= 1 else (max(reach, -1.0), bare)


def _leg(canvas: Canvas, performer: Performer, at: Points, metre: float, side: str) -> None:
    hip, knee, ankle = (at[f"{side}_{name}"] for name in ("hip", "knee", "ankle"))
    thick, cloth, skin = metre * performer.girth, cloth_texture(performer.trousers), rgb(performer.skin)
    _shoe(canvas, performer, at, metre, side)
    below = _cloth_end(performer.trouser_leg - 1, skin)
    limb(canvas, np.array([knee, ankle]), _scale(_SHIN, thick), cloth, skin=below, span_px=(64, 110))
    start = hip + 0.04 * (knee - hip)
    above = _cloth_end(performer.trouser_leg, skin)
    limb(canvas, np.array([start, knee]), _scale(_THIGH, thick), cloth, skin=above, span_px=(80, 116), shadow=0.15)


def _shoe(canvas: Canvas, performer: Performer, at: Points, metre: float, side: str) -> None:
    heel, ankle = at[f"{side}_heel"], at[f"{side}_ankle"]
    toes = 0.65 * at[f"{side}_big_toe"] + 0.35 * at[f"{side}_small_toe"]
    down = unit_vector(heel + toes - 2 * ankle, (0.0, 1.0))
    toes = toes - 0.03 * (toes - heel) - 0.010 * metre * down
    sole, leather = rgb(performer.soles), rgb(performer.shoes)
    drop = 0.016 * metre * down
    limb(canvas, np.array([heel + drop, toes + drop]), _scale([0.036, 0.036, 0.045, 0.042], metre), sole)
    limb(canvas, np.array([ankle, (heel + toes) / 2]), _scale([0.046, 0.048, 0.044], metre), leather)
    limb(canvas, np.array([heel, toes]), _scale([0.038, 0.040, 0.047, 0.041], metre), leather)
    lace = heel + 0.62 * (toes - heel)
    limb(canvas, np.array([lace, ankle + 0.35 * (lace - ankle)]), _scale([0.016, 0.013], metre), sole)


def _pelvis(canvas: Canvas, performer: Performer, at: Points, metre: float) -> None:
    thick = metre * performer.girth
    hips = np.array([at["right_hip"], at["left_hip"]])
    limb(canvas, hips, _scale([0.080, 0.080, 0.080], thick), cloth_texture(performer.trousers), span_px=(80, 90))


def _trunk(canvas: Canvas, performer: Performer, at: Points, metre: float) -> None:
    """Draw the shirt: its texture on an elliptic trunk between shoulders and hips."""
    up = unit_vector(at["neck"] - at["hip"])
    right = np.array([-up[1], up[0]], np.float32)
    wide = performer.girth * metre
    shoulders = _span(at["left_shoulder"] - at["right_shoulder"], right, 0.10 * wide, 0.036 * wide)
    hips = _span(at["left_hip"] - at["right_hip"], right, 0.08 * wide, 0.078 * wide)
    top, bottom = at["neck"], at["hip"] - 0.020 * metre * up
    length = max(float(np.linalg.norm(top - bottom)), 1e-3)
    corners = np.array([top, top, bottom, bottom]) + np.array([-shoulders, shoulders, hips, -hips])
    window = canvas.window(*(corners.min(axis=0) - 0.14 * metre), *(corners.max(axis=0) + 0.14 * metre))
    if window is None:
        return
    rows, columns, xs, ys = window
    # Texture coordinates: v from 0 at the shoulders to 1 at the hem along the spine, u from -1 to 1 across.
    v = -((xs - top[0]) * up[0] + (ys - top[1]) * up[1]) / length
    part = np.clip(v, -0.3, 1.1)
    cx, cy = top[0] + (bottom[0] - top[0]) * part, top[1] + (bottom[1] - top[1]) * part
    hx, hy = shoulders[0] + (hips[0] - shoulders[0]) * part, shoulders[1] + (hips[1] - shoulders[1]) * part
    half = np.hypot(hx, hy)
    u = ((xs - cx) * hx + (ys - cy) * hy) / (half * half)
    # The cloth tilts with shoulders and hips: v is measured from the lines through them.
    v = v + u * (hx * up[0] + hy * up[1]) / length
    waist = 1 - performer.waist * np.exp(-(((v - 0.62) / 0.26) ** 2))
    u = u / waist
    slope = -0.20 * (1 - np.minimum(np.abs(u) / 0.92, 1)) ** 0.8 + 0.10 * np.maximum(np.abs(u) - 0.72, 0)
    alpha = np.clip((1 - np.abs(u)) * half * waist + 0.5, 0, 1) * np.clip((v - slope) * length + 0.5, 0, 1)
    alpha = alpha * np.clip((1.0 + 0.05 * (1 - u * u) - v) * length + 0.5, 0, 1)
    collar = np.hypot(u * half / metre, (v + 0.17) * length / metre * 0.8) - 0.082
    bend = np.clip(u, -1, 1)
    front = shirt_texture(performer.shirt, performer.logo, performer.ink)
    across = (0.5 + 0.5 * np.arcsin(bend) / (np.pi / 2) * 1.12) * (front.shape[1] - 1)
    along = np.clip((v + 0.2) / 1.25, 0, 1) * (front.shape[0] - 1)
    across = np.clip(across, 0, front.shape[1] - 1)
    cloth = sample(front, across.ravel(), along.ravel()).reshape(*across.shape, 3)
    trim = np.clip(1 - np.abs(collar * metre - 1.2) / 1.6, 0, 1) * 0.35
    alpha = alpha * np.clip(collar * metre + 0.5, 0, 1)
    nx, ny = bend * right[0] * 0.92, bend * right[1] * 0.92 + 0.18 * (v - 0.35)
    bright = light(nx, ny, 0.64) * (1 - trim)
    canvas.blend(rows, columns, cloth * bright[:, :, None], np.asarray(alpha, np.float32))


def _span(across: NDArray[np.floating], right: NDArray[np.floating], least: float, more: float) -> NDArray[np.floating]:
    """Half of the line `across` the body, `more` px longer; its length is limited below by the depth of the body."""
    side = 1.0 if float(across @ right) >= 0 else -1.0
    line = across + right * side * 1e-3
    width = float(np.linalg.norm(line))
    half = float(np.sqrt((width / 2) ** 2 + least**2 * max(0.0, 1 - (width / (4 * least)) ** 2))) + more
    return np.asarray(line / width * half, np.float32)


def _arm(canvas: Canvas, performer: Performer, at: Points, metre: float, side: str) -> None:
    shoulder, elbow, wrist = (at[f"{side}_{name}"] for name in ("shoulder", "elbow", "wrist"))
    thick, cloth, skin = metre * performer.girth, cloth_texture(performer.shirt), rgb(performer.skin)
    _hand(canvas, performer, elbow, wrist, metre, 1.0 if side == "left" else -1.0)
    lower = performer.sleeve - 1
    below = _cloth_end(lower, skin)
    limb(
        canvas, np.array([elbow, wrist]), _scale(_FOREARM, thick), cloth if lower > 0 else skin,
        skin=below if lower > 0 else None, span_px=(48, 70), shadow=0.22,
    )  # fmt: skip
    above = _cloth_end(performer.sleeve, skin)
    limb(
        canvas, np.array([shoulder, elbow]), _scale(_UPPER_ARM, thick), cloth, skin=above, span_px=(60, 78), shadow=0.2
    )


# A hand that points up, thumb to the right: (start, end, radii) in lengths of the hand.
_HAND = (
    ((0.0, 0.05), (0.02, 0.42), [0.155, 0.20, 0.20]),
    ((0.13, 0.16), (0.36, 0.52), [0.085, 0.075, 0.06]),
    ((-0.17, 0.42), (-0.27, 0.78), [0.068, 0.055]),
    ((-0.06, 0.45), (-0.09, 0.94), [0.072, 0.058]),
    ((0.06, 0.45), (0.09, 0.97), [0.072, 0.058]),
    ((0.17, 0.42), (0.24, 0.88), [0.068, 0.055]),
)


def _hand(
    canvas: Canvas,
    performer: Performer,
    elbow: NDArray[np.floating],
    wrist: NDArray[np.floating],
    metre: float,
    sign: float,
) -> None:
    along = wrist - elbow
    along = along / max(float(np.linalg.norm(along)), 0.05 * metre)
    # The thumb points to the head if the arm is level, and inwards if it is up or down.
    thumb = np.array([along[1], -along[0]], np.float32) * sign
    size = 0.165 * metre * (0.6 + 0.4 * performer.girth)
    skin = rgb(performer.skin)
    for start, stop, radii in _HAND:
        ends = np.array([wrist + size * (p[0] * thumb + p[1] * along) for p in (start, stop)], np.float32)
        limb(canvas, ends, _scale(radii, size), skin)
