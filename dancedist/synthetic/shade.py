"""Draw round, textured, antialiased shapes on a float picture; a shape is a continuous function of its ends."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.floating]
_LIGHT = np.array([-0.42, -0.56, 0.71], np.float32)


@dataclass(frozen=True, eq=False)
class Canvas:
    """`rgb` float32 (H, W, 3) in [0, 255] and `body` float32 (H, W) in [0, 1]: coverage by the shapes drawn so far."""

    rgb: Image
    body: Image

    def window(self, x0: float, y0: float, x1: float, y1: float) -> tuple[slice, slice, Image, Image] | None:
        """Rows, columns and pixel coordinates of a box: float32 x (1, w), y (h, 1) px.

        The box is clipped to the picture; None if it is outside.
        """
        h, w = self.body.shape
        left, right = max(0, int(np.floor(x0))), min(w, int(np.ceil(x1)) + 1)
        top, bottom = max(0, int(np.floor(y0))), min(h, int(np.ceil(y1)) + 1)
        if left >= right or top >= bottom:
            return None
        xs = np.arange(left, right, dtype=np.float32)[None, :]
        ys = np.arange(top, bottom, dtype=np.float32)[:, None]
        return slice(top, bottom), slice(left, right), xs, ys

    def blend(self, rows: slice, columns: slice, rgb: Image, alpha: Image) -> None:
        """Blend a colour over a window with `alpha`, float32 (h, w) in [0, 1].

        The colour is float32 RGB (h, w, 3) or (3,) in [0, 255].
        """
        under = self.rgb[rows, columns]
        under += (rgb - under) * alpha[:, :, None]
        np.maximum(self.body[rows, columns], alpha, out=self.body[rows, columns])


def light(nx: Image, ny: Image, ambient: float = 0.60) -> Image:
    """Brightness, float32 (h, w), of a round surface by its unit normal's components (nx, ny), each float32 (h, w)."""
    nz = np.sqrt(np.maximum(1 - nx * nx - ny * ny, 0))
    return _shade(nx * _LIGHT[0] + ny * _LIGHT[1] + nz * _LIGHT[2], ambient)


def _shade(facing: Image, ambient: float) -> Image:
    """Diffuse light and a highlight, from the cosine of the angle to the lamp."""
    lit = np.maximum(facing, 0)
    fourth = np.square(np.square(lit))
    return ambient + (1.08 - ambient) * lit + 0.10 * fourth * fourth * fourth


def sample(cloth: Image, u: Image, v: Image) -> Image:
    """Sample a tiling texture, float32 RGB (h, w, 3) -> (N, 3), at u (across) and v (along), float32 (N,) px."""
    row = 128  # cv2.remap supports sides up to 32767
    count = len(u)
    maps = np.zeros((2, -(-count // row) * row), np.float32)
    maps[0, :count], maps[1, :count] = u, v
    u2, v2 = maps.reshape(2, -1, row)
    sampled = cv2.remap(cloth, u2, v2, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)
    return np.asarray(sampled.reshape(-1, 3)[:count], np.float32)


def clamp_unit(x: Image) -> Image:
    """Clamp float32 (...,) values to [0, 1]."""
    return np.minimum(np.maximum(x, np.float32(0)), np.float32(1))


def unit_vector(vector: Image, default: tuple[float, float] = (0.0, -1.0)) -> Image:
    """Normalise a vector (2,) px to a float32 unit vector (2,); `default` (upwards) if it is too short."""
    length = float(np.linalg.norm(vector))
    return np.asarray(vector / length if length > 1e-3 else default, np.float32)


def limb(
    canvas: Canvas,
    ends: NDArray[np.floating],
    radii: list[float],
    cloth: Image,
    *,
    span_px: tuple[float, float] = (64.0, 64.0),
    skin: tuple[float, Image] | None = None,
    shadow: float = 0.0,
) -> None:
    """Draw a round limb from ends[0] to ends[1], floats (2, 2) px, with `radii` (px) at equal steps along it.

    `cloth` is one colour, float32 RGB (3,), or a texture (h, w, 3), of which `span_px` px cover the visible half of
    the circumference and the length. With `skin` (position, colour), the cloth ends at that fraction of the length.
    `shadow` is the strength of the shadow on the body beneath, in [0, 1].
    """
    widest = 1.1 * max(radii) + 1
    reach = widest * (1.5 if shadow else 1.0)
    window = canvas.window(*(ends.min(axis=0) - reach), *(ends.max(axis=0) + reach))
    if window is None:
        return
    rows, columns, xs, ys = window
    xs, ys = xs - float(ends[0, 0]), ys - float(ends[0, 1])
    dx, dy = (float(d) for d in ends[1] - ends[0])
    length = max(float(np.hypot(dx, dy)), 1e-3)
    ux, uy = dx / length, dy / length
    along, side = xs * ux + ys * uy, ys * ux - xs * uy
    near = np.nonzero((np.abs(side) < reach) & (np.abs(along - length / 2) < length / 2 + reach))
    along, side = along[near], side[near]
    picture, body = canvas.rgb[rows, columns], canvas.body[rows, columns]
    under, before = picture[near], body[near]
    inside = clamp_unit(along / length)
    radius = np.interp(inside, [i / (len(radii) - 1) for i in range(len(radii))], radii).astype(np.float32)
    if skin is not None:
        radius += 0.1 * radii[0] * clamp_unit(skin[0] * length - along + 0.5)
    if shadow:
        aside, ahead = side - widest * (0.3 * ux - 0.2 * uy), along - widest * (0.2 * ux + 0.3 * uy)
        gap = np.hypot(aside, ahead - np.clip(ahead, 0, length)) - radius
        under *= (1 - shadow * clamp_unit(0.5 - gap / (0.7 * widest)) * before)[:, None]
    alpha = clamp_unit(radius - np.hypot(side, along - inside * length) + 0.5)
    # Shaded across the limb only, so that the cap of a limb blends into the next limb without a ball at the joint.
    across = np.clip(side / radius, -1, 1)
    facing = across * (ux * _LIGHT[1] - uy * _LIGHT[0]) + np.sqrt(1 - across * across) * _LIGHT[2]
    if cloth.ndim == 1:
        rgb = cloth
    else:
        rgb = sample(cloth, (np.arcsin(across) / np.pi + 0.5) * span_px[0], along * (span_px[1] / length))
    if skin is not None:
        past = along - skin[0] * length
        bare, hem = clamp_unit(past + 0.5)[:, None], clamp_unit(1 - np.abs(past + 1.5) / 1.5)[:, None]
        rgb = rgb * (1 - 0.35 * hem) * (1 - bare) + skin[1] * bare
    under += (rgb * _shade(facing, 0.60)[:, None] - under) * alpha[:, None]
    picture[near], body[near] = under, np.maximum(before, alpha)


def oval(
    canvas: Canvas,
    centre: NDArray[np.floating],
    up: NDArray[np.floating],
    half: tuple[float, float],
    colour: Image,
    *,
    strength: float = 1.0,
    shaded: bool = True,
) -> None:
    """Draw an ellipse: `centre`, float32 (2,) px; half axes `half`, px, across and along the unit vector `up`."""
    reach = max(half) + 1
    window = canvas.window(*(centre - reach), *(centre + reach))
    if window is None:
        return
    rows, columns, xs, ys = window
    x, y = xs - centre[0], ys - centre[1]
    p, q = (-x * up[1] + y * up[0]) / half[0], (x * up[0] + y * up[1]) / half[1]
    r = np.sqrt(p * p + q * q)
    alpha = np.clip((1 - r) * min(half) + 0.5, 0, 1) * strength
    if shaded:
        r = np.maximum(r, 1)
        p, q = p / r, q / r
        colour = colour * light(-p * up[1] + q * up[0], p * up[0] + q * up[1])[:, :, None]
    canvas.blend(rows, columns, colour, alpha)


def stroke(
    canvas: Canvas,
    centre: NDArray[np.floating],
    up: NDArray[np.floating],
    half: tuple[float, float],
    bend: float,
    colour: Image,
    strength: float = 1.0,
) -> None:
    """Draw a curved line, thin at the ends, around `centre`, float32 (2,) px.

    `half` is half its length and thickness, px; its middle is `bend` px above its ends, along the unit vector `up`.
    """
    reach = half[0] + abs(bend) + half[1] + 1
    window = canvas.window(*(centre - reach), *(centre + reach))
    if window is None:
        return
    rows, columns, xs, ys = window
    x, y = xs - centre[0], ys - centre[1]
    p, q = -x * up[1] + y * up[0], x * up[0] + y * up[1]
    bow = 1 - (p / half[0]) ** 2
    thick = half[1] * np.clip(0.35 + 0.65 * bow, 0.05, 1)
    alpha = np.clip(thick - np.abs(q - bend * bow) + 0.5, 0, 1) * np.clip(half[0] - np.abs(p) + 0.5, 0, 1)
    canvas.blend(rows, columns, colour, np.asarray(np.minimum(alpha, 2 * half[1]) * strength, np.float32))
