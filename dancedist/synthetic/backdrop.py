"""Draw a static backdrop: a wall with a pattern and a poster above a floor in perspective."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from dancedist.synthetic.camera import Camera
from dancedist.synthetic.cloth import Colour, rgb

Image = NDArray[np.floating]


@dataclass(frozen=True)
class Backdrop:
    """Wall and floor as seen by `camera`; the wall is `wall_m` behind the dancer's mark."""

    wall: Literal["brick", "panels"] = "brick"
    wall_colour: Colour = (150, 92, 74)
    joint_colour: Colour = (196, 182, 168)
    floor: Literal["planks", "tiles"] = "planks"
    floor_colour: Colour = (168, 122, 80)
    poster: tuple[Colour, Colour, Colour] | None = ((28, 60, 92), (240, 180, 60), (232, 88, 70))
    poster_at_m: tuple[float, float] = (-1.0, 1.55)
    camera: Camera = field(default_factory=Camera)
    wall_m: float = 1.3
    seed: int = 0


@lru_cache(maxsize=16)
def paint(backdrop: Backdrop, size: tuple[int, int]) -> Image:
    """The backdrop as float32 RGB (H, W, 3) in [0, 255]; the array is cached and read-only: copy it to draw on it."""
    w, h = size
    oversampling = 2
    columns, rows = np.arange(w * oversampling, dtype=np.float32), np.arange(h * oversampling, dtype=np.float32)
    x, y = np.meshgrid((columns + 0.5) / oversampling, (rows + 0.5) / oversampling)
    cam = backdrop.camera
    depth = cam.distance_m + backdrop.wall_m
    scale = cam.focal * h / depth
    wall_x, wall_y = (x - cam.centre * w) / scale, cam.eye_m - (y - cam.horizon * h) / scale
    below = np.maximum((y - cam.horizon * h) / (cam.focal * h), 1e-3)
    distance = cam.eye_m / below
    floor_x, floor_z = (x - cam.centre * w) * distance / (cam.focal * h), distance
    rng = np.random.default_rng(backdrop.seed)
    wall = _brick(wall_x, wall_y, backdrop, rng) if backdrop.wall == "brick" else _panels(wall_x, wall_y, backdrop, rng)
    if backdrop.poster is not None:
        _poster(wall, wall_x - backdrop.poster_at_m[0], wall_y - backdrop.poster_at_m[1], backdrop.poster)
    wall = _skirting(wall, wall_y)
    floor = (_planks if backdrop.floor == "planks" else _tiles)(floor_x, floor_z, backdrop, rng)
    floor *= np.clip(0.62 + 0.42 * (depth - distance) / 1.2, 0.62, 1.0)[:, :, None]
    lamp = 0.72 + 0.38 * np.exp(-((wall_x + 0.5) ** 2 + (wall_y - 1.7) ** 2) / 2.6)
    coverage = np.clip(wall_y * scale * oversampling + 0.5, 0, 1)[:, :, None]
    picture = np.clip(wall * lamp[:, :, None] * coverage + floor * (1 - coverage), 0, 255)
    out = np.asarray(cv2.resize(picture, (w, h), interpolation=cv2.INTER_AREA), np.float32)
    out.setflags(write=False)
    return out


def _grain(shape: tuple[int, ...], rng: np.random.Generator, cells: tuple[int, int]) -> Image:
    """Smooth noise in [-1, 1]."""
    coarse = rng.uniform(-1, 1, cells).astype(np.float32)
    return np.asarray(cv2.resize(coarse, (shape[1], shape[0]), interpolation=cv2.INTER_CUBIC), np.float32)


def _pick(table: Image, a: Image, b: Image) -> Image:
    """Random number of each brick or plank."""
    return np.asarray(table[a.astype(np.int64) % table.shape[0], b.astype(np.int64) % table.shape[1]])


def _brick(x: Image, y: Image, backdrop: Backdrop, rng: np.random.Generator) -> Image:
    wide, high, gap = 0.25, 0.085, 0.013
    course = np.floor(y / high)
    along = x / wide + 0.5 * (course % 2)
    u, v = (along % 1) * wide, (y / high % 1) * high
    mortar = np.clip(1 - np.minimum(np.minimum(u, wide - u), np.minimum(v, high - v)) / gap, 0, 1)[:, :, None]
    tone = 1 + 0.16 * _pick(rng.uniform(-1, 1, (61, 67)), course, np.floor(along))
    tone = tone + 0.05 * _grain(x.shape, rng, (90, 90))
    lit = tone + 0.12 * (v / high - 0.5)
    bricks = rgb(backdrop.wall_colour) * lit[:, :, None]
    return np.asarray(bricks + (rgb(backdrop.joint_colour) * 0.8 - bricks) * mortar, np.float32)


def _panels(x: Image, y: Image, backdrop: Backdrop, rng: np.random.Generator) -> Image:
    stripe = np.clip((0.5 - np.abs((x / 0.34) % 1 - 0.5) - 0.25) * 40 + 0.5, 0, 1)
    out = rgb(backdrop.wall_colour) + (rgb(backdrop.joint_colour) - rgb(backdrop.wall_colour)) * stripe[:, :, None]
    dot = np.clip((0.030 - np.hypot((x / 0.34) % 1 * 0.34 - 0.17, y % 0.30 - 0.15)) * 200, 0, 1)
    out += (rgb(backdrop.joint_colour) * 0.8 - out) * dot[:, :, None]
    return np.asarray(out * (1 + 0.03 * _grain(x.shape, rng, (60, 60)))[:, :, None], np.float32)


def _skirting(wall: Image, y: Image) -> Image:
    board = np.clip((0.11 - y) * 200, 0, 1)[:, :, None]
    white = rgb((226, 220, 210)) * (0.8 + 2 * np.clip(y, 0, 0.11))[:, :, None]
    return np.asarray(wall + (white - wall) * board)


def _poster(wall: Image, x: Image, y: Image, colours: tuple[Colour, Colour, Colour]) -> None:
    half_w, half_h = 0.30, 0.42
    ground, disc, bar = (rgb(c) for c in colours)

    def over(alpha: Image, colour: Image) -> None:
        wall[:] += (colour - wall) * np.clip(alpha, 0, 1)[:, :, None]

    def box(cx: float, cy: float, w: float, h: float) -> Image:
        return np.asarray(np.clip((w - np.abs(x - cx)) * 150, 0, 1) * np.clip((h - np.abs(y - cy)) * 150, 0, 1))

    wall *= 1 - 0.35 * box(0.03, -0.03, half_w + 0.03, half_h + 0.03)[:, :, None]
    over(box(0, 0, half_w + 0.025, half_h + 0.025), np.array([244, 240, 230], np.float32))
    over(box(0, 0, half_w, half_h), ground)
    over((0.19 - np.hypot(x, y - 0.1)) * 150, disc)
    over((0.09 - np.hypot(x - 0.07, y - 0.15)) * 150, ground)
    for i in range(3):
        over(box(-0.04 * i, -0.2 - 0.07 * i, 0.2 - 0.04 * i, 0.018), bar)


def _planks(x: Image, z: Image, backdrop: Backdrop, rng: np.random.Generator) -> Image:
    wide, long = 0.16, 1.3
    row = np.floor(x / wide + 1000)
    start = _pick(rng.uniform(0, long, (97, 1)), row, row * 0)
    piece = np.floor((z + start) / long)
    tone = 1 + 0.17 * _pick(rng.uniform(-1, 1, (97, 31)), row, piece)
    vein = 0.05 * np.sin(60 * (x + 0.02 * np.sin(5 * z + row)) + 9 * row) + 0.03 * _grain(x.shape, rng, (120, 60))
    u, v = (x / wide) % 1 * wide, (z + start) % long
    seam = np.clip(1 - np.minimum(np.minimum(u, wide - u) / 0.008, np.minimum(v, long - v) / 0.02), 0, 1)
    return np.asarray(rgb(backdrop.floor_colour) * ((tone + vein) * (1 - 0.5 * seam))[:, :, None], np.float32)


def _tiles(x: Image, z: Image, backdrop: Backdrop, rng: np.random.Generator) -> Image:
    wide = 0.45
    tone = 1 + 0.07 * np.where((np.floor(x / wide) + np.floor(z / wide)) % 2 > 0, 1, -1)
    tone = tone + 0.04 * _pick(rng.uniform(-1, 1, (53, 59)), np.floor(x / wide + 500), np.floor(z / wide))
    u, v = (x / wide) % 1 * wide, (z / wide) % 1 * wide
    seam = np.clip(1 - np.minimum(np.minimum(u, wide - u), np.minimum(v, wide - v)) / 0.012, 0, 1)
    grain = 0.03 * _grain(x.shape, rng, (150, 150))
    return np.asarray(rgb(backdrop.floor_colour) * ((tone + grain) * (1 - 0.35 * seam))[:, :, None], np.float32)
