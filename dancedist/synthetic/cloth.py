"""Textures of clothes on limbs and trunk."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

Colour = tuple[int, int, int]
SIDE = 128


@dataclass(frozen=True)
class Cloth:
    """A pattern in two RGB colours, repeated `repeats` times across a trunk."""

    pattern: Literal["plain", "stripes", "bars", "checks", "dots", "denim"]
    colour: Colour
    second: Colour
    repeats: int = 4


def rgb(colour: Colour) -> NDArray[np.float32]:
    """Colour as float32 RGB (3,) in [0, 255]."""
    return np.array(colour, np.float32)


@lru_cache(maxsize=64)
def cloth_texture(cloth: Cloth) -> NDArray[np.float32]:
    """Texture, float32 RGB (128, 128, 3) in [0, 255], that tiles seamlessly in both directions."""
    y, x = np.mgrid[0:SIDE, 0:SIDE].astype(np.float32) / SIDE * cloth.repeats
    sharp = SIDE / cloth.repeats / 2.5

    def band(t: NDArray[np.float32], width: float) -> NDArray[np.float32]:
        return np.asarray(np.clip((width / 2 - np.abs(t % 1 - 0.5)) * sharp + 0.5, 0, 1), np.float32)

    patterns = {
        "plain": np.zeros_like(x),
        "stripes": band(y, 0.45),
        "bars": band(x, 0.35),
        "checks": 0.55 * band(x, 0.4) + 0.45 * band(y, 0.4),
        "dots": np.clip((0.27 - np.hypot(x % 1 - 0.5, y % 1 - 0.5)) * sharp + 0.5, 0, 1),
        "denim": 0.5 + 0.5 * np.sin(4 * np.pi * (x + y)) * np.cos(2 * np.pi * y),
    }
    weight = patterns[cloth.pattern]
    out = rgb(cloth.colour) + (rgb(cloth.second) - rgb(cloth.colour)) * weight[:, :, None]
    return np.asarray(out, np.float32)


@lru_cache(maxsize=16)
def shirt_texture(cloth: Cloth, logo: Literal["star", "bolt", "heart", "none"], ink: Colour) -> NDArray[np.float32]:
    """Front of a shirt from shoulders to hem, with a print and a dark hem: float32 RGB (256, 192, 3) in [0, 255]."""
    h, w = 256, 192
    front = np.ascontiguousarray(np.tile(cloth_texture(cloth), (2, 2, 1))[:h, :w])
    if logo != "none":
        points, c = _LOGOS[logo], np.array([w / 2, 92])
        shape = np.round((c + np.array(points, np.float32) * 40) * 16).astype(np.int32)
        ring = np.round((c + np.array(points, np.float32) * 46) * 16).astype(np.int32)
        mask = np.zeros((h, w), np.uint8)
        for outline, colour in ((ring, cloth.colour), (shape, ink)):
            mask[:] = 0
            cv2.fillPoly(mask, [outline], 255, cv2.LINE_AA, 4)
            front += (rgb(colour) - front) * (mask[:, :, None].astype(np.float32) / 255)
    front[-12:] *= 0.72
    return front


def _star() -> list[tuple[float, float]]:
    turns = np.arange(10) * np.pi / 5
    return [(float(np.sin(t)) * r, float(-np.cos(t)) * r) for t, r in zip(turns, [1, 0.45] * 5, strict=True)]


def _heart() -> list[tuple[float, float]]:
    t = np.linspace(0, 2 * np.pi, 48, endpoint=False)
    y = -(13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t)) / 16
    return list(zip((np.sin(t) ** 3).tolist(), y.tolist(), strict=True))


_LOGOS = {
    "star": _star(),
    "heart": _heart(),
    "bolt": [(0.25, -1.0), (-0.6, 0.15), (-0.08, 0.15), (-0.3, 1.0), (0.6, -0.25), (0.08, -0.25)],
}
