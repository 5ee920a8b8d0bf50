"""Draw head, hair and face from the keypoints of eyes, ears, nose and the top of the head."""

from __future__ import annotations

from math import sqrt

import numpy as np
from numpy.typing import NDArray

from dancedist.synthetic.cloth import rgb
from dancedist.synthetic.performer import Performer
from dancedist.synthetic.shade import Canvas, Image, clamp_unit, light, limb, oval, stroke, unit_vector

Points = dict[str, NDArray[np.floating]]


def draw_neck(canvas: Canvas, performer: Performer, at: Points, metre: float) -> None:
    """Draw the neck, darker under the chin. `at`: keypoints, float32 (2,) px each; `metre`: px per metre."""
    ears = (at["left_ear"] + at["right_ear"]) / 2
    ends = np.array([at["neck"], at["neck"] + 0.8 * (ears - at["neck"])], np.float32)
    skin = rgb(performer.skin) * np.float32(0.86)
    limb(canvas, ends, [r * metre * performer.girth for r in (0.068, 0.056, 0.056)], skin)


def draw_hair_behind(canvas: Canvas, performer: Performer, at: Points) -> None:
    """Draw long hair behind the shoulders; nothing for short hair. `at`: keypoints, float32 (2,) px each."""
    ears = (at["left_ear"] + at["right_ear"]) / 2
    up: Image = at["head_top"] - ears
    tall = max(float(np.linalg.norm(up)), 1e-3)
    up = unit_vector(up)
    long = tall * performer.hair_length
    if performer.hair_length > 0.4:
        ends = np.array([ears + 0.1 * tall * up, ears - 1.15 * long * up + 0.25 * (ears - at["nose"])], np.float32)
        width = 1.04 * performer.face_width * tall
        limb(canvas, ends, [width, 1.06 * width, 1.12 * width, 0.8 * width], rgb(performer.hair) * np.float32(0.8))


def draw_head(canvas: Canvas, performer: Performer, at: Points, metre: float) -> None:
    """Draw everything above the neck. `at`: keypoints, float32 (2,) px each; `metre`: px per metre.

    The head's size is the distance from the ears to the top, its rotation follows from the position of the nose.
    """
    ears = (at["left_ear"] + at["right_ear"]) / 2
    up: Image = at["head_top"] - ears
    tall = float(np.hypot(np.linalg.norm(up), 0.3 * 0.13 * metre))
    up = unit_vector(up)
    right = np.array([-up[1], up[0]], np.float32)
    high, wide = tall * 0.97, tall * 0.97 * performer.face_width
    nose = at["nose"] - ears
    yaw = float(np.clip(nose @ right / (0.92 * tall), -0.95, 0.95))
    nod = float(np.clip(-(nose @ up) / (0.92 * tall) - 0.19, -0.8, 0.8))
    skin = rgb(performer.skin)
    for name in ("left_ear", "right_ear"):
        oval(canvas, at[name] - 0.06 * tall * up, up, (0.13 * tall, 0.22 * tall), skin * np.float32(0.92))
    _skull(canvas, performer, ears, up, (wide, high), (yaw, nod))
    _face(canvas, performer, at, up, right, tall, yaw)


def _skull(
    canvas: Canvas, performer: Performer, ears: Image, up: Image, half: tuple[float, float], turn: tuple[float, float]
) -> None:
    (wide, high), (yaw, nod) = half, turn
    reach = high * 1.25
    window = canvas.window(*(ears - reach), *(ears + reach))
    if window is None:
        return
    rows, columns, xs, ys = window
    x, y = xs - ears[0], ys - ears[1]
    p, q = (-x * up[1] + y * up[0]) / wide, (x * up[0] + y * up[1]) / high
    jaw = 1 - 0.30 * np.clip(-q, 0, 1) ** 1.6
    face = np.sqrt((p / jaw) ** 2 + q * q)
    nx, ny, _ = _normal(p / jaw, q, face, up)
    alpha = np.clip((1 - face) * wide + 0.5, 0, 1)
    canvas.blend(rows, columns, rgb(performer.skin) * light(nx, ny, 0.66)[:, :, None], np.asarray(alpha, np.float32))
    # Hair covers the part behind a plane through brow, temples and nape, which rotates with the head.
    p, q = p / 1.10, (q - 0.03) / 1.08
    r = np.sqrt(p * p + q * q)
    nx, ny, nz = _normal(p, q, r, up)
    cy, sy, cn, sn = sqrt(1 - yaw * yaw), yaw, sqrt(1 - nod * nod), nod
    side, depth = p * cy - nz * sy, p * sy + nz * cy
    height, depth = q * cn + depth * sn, depth * cn - q * sn
    locks = 0.9 * performer.hair_length * clamp_unit(3 * np.abs(side) - 2.0)
    edge = height - 1.02 * depth + 0.06 * np.sin(9 * side + 1) + 0.16 + locks
    alpha = np.clip((1 - r) * wide + 0.5, 0, 1) * np.clip(edge * wide * 0.7 + 0.5, 0, 1)
    strands = 0.86 + 0.16 * np.sin(26 * np.arctan2(side, height + 0.3)) * np.cos(3 * depth)
    sheen = 0.5 * np.exp(-(((height - 0.62 + 0.15 * side) / 0.10) ** 2)) * np.clip(nz, 0, 1)
    hair = rgb(performer.hair) * (strands * light(nx, ny, 0.62))[:, :, None] + 60 * sheen[:, :, None]
    canvas.blend(rows, columns, np.asarray(hair, np.float32), np.asarray(alpha, np.float32))


def _normal(p: Image, q: Image, r: Image, up: Image) -> tuple[Image, Image, Image]:
    over = np.maximum(r, 1)
    p, q = p / over, q / over
    return -p * up[1] + q * up[0], p * up[0] + q * up[1], np.sqrt(np.maximum(1 - p * p - q * q, 0))


def _face(canvas: Canvas, performer: Performer, at: Points, up: Image, right: Image, tall: float, yaw: float) -> None:
    eyes = (at["left_eye"] + at["right_eye"]) / 2
    skin, dark = rgb(performer.skin), rgb(performer.hair) * np.float32(0.6)
    drop = float((eyes - at["nose"]) @ up)
    mouth = at["nose"] - up * (0.30 * tall + 0.1 * drop) - right * yaw * 0.06 * tall
    for name, sign in (("left_eye", 1.0), ("right_eye", -1.0)):
        # The far eye becomes narrower as the head turns.
        narrow = float(np.clip(1 + 0.55 * sign * -yaw, 0.35, 1.1))
        eye, half = at[name], 0.175 * tall * narrow
        oval(canvas, eye, up, (half, 0.105 * tall), rgb((250, 248, 244)), shaded=False)
        pupil = eye + right * yaw * 0.05 * tall
        oval(canvas, pupil, up, (0.095 * tall * narrow, 0.10 * tall), rgb(performer.iris), shaded=False)
        oval(canvas, pupil, up, (0.05 * tall, 0.055 * tall), rgb((20, 16, 16)), shaded=False)
        stroke(canvas, eye + up * 0.055 * tall, up, (half * 1.12, 0.032 * tall), 0.06 * tall, rgb((40, 26, 24)))
        stroke(canvas, eye + up * 0.24 * tall, up, (half * 1.25, 0.042 * tall), 0.05 * tall, dark, 0.9)
        cheek = eye - up * 0.36 * tall + right * sign * 0.1 * tall * narrow
        oval(canvas, cheek, up, (0.15 * tall * narrow, 0.11 * tall), rgb((226, 96, 84)), strength=0.16, shaded=False)
    under = at["nose"] - up * 0.075 * tall
    stroke(
        canvas,
        under,
        up,
        (0.11 * tall, 0.034 * tall),
        -0.04 * tall,
        skin * np.float32(0.55),
        0.8,
    )
    bridge = np.array([eyes - right * yaw * 0.05 * tall, at["nose"]], np.float32)
    limb(canvas, bridge, [0.035 * tall, 0.045 * tall, 0.085 * tall], skin * np.float32(1.04))
    stroke(canvas, mouth - up * 0.012 * tall, up, (0.23 * tall, 0.075 * tall), -0.06 * tall, rgb(performer.lips))
    stroke(canvas, mouth, up, (0.19 * tall, 0.030 * tall), -0.06 * tall, rgb((252, 246, 240)))
