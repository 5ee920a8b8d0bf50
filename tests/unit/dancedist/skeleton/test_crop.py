from __future__ import annotations

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from dancedist.pose.topology import HALPE26
from dancedist.recipe import FigureRecipe
from dancedist.skeleton.crop import cut, face_figure, from_crop, mapped, to_crop, uncut
from dancedist.skeleton.draw import draw_figure

SIZE = (200, 160)
# Not on whole pixels, smaller and larger than the crop, in both directions unlike.
BOXES = [(40.0, 30.0, 104.0, 94.0), (40.3, 30.7, 87.9, 78.2), (20.6, 15.1, 170.2, 150.3), (50.0, 40.0, 81.3, 71.9)]
PX = 64


def ramp() -> NDArray[np.float32]:
    """Every pixel holds where it is: any shift shows as it is long."""
    y, x = np.indices((SIZE[1], SIZE[0])).astype(np.float32)
    return np.stack([x, y, x + y], axis=2)


def smooth() -> NDArray[np.uint8]:
    noise = np.random.default_rng(0).integers(0, 255, (SIZE[1], SIZE[0], 3)).astype(np.float32)
    blurred = cv2.GaussianBlur(noise, (0, 0), 8)
    return np.asarray(((blurred - blurred.min()) / np.ptp(blurred) * 255).astype(np.uint8))


@pytest.mark.parametrize("box", BOXES)
def test_maps_are_each_others_inverse(box: tuple[float, float, float, float]) -> None:
    xy = np.random.default_rng(0).uniform(0, 150, (20, 2)).astype(np.float32)
    there = mapped(to_crop(box, PX), xy)
    assert np.abs(mapped(from_crop(box, PX), there) - xy).max() < 1e-4
    middle = np.array([(box[0] + box[2]) / 2, (box[1] + box[3]) / 2], np.float32)
    assert mapped(to_crop(box, PX), middle) == pytest.approx([(PX - 1) / 2] * 2, abs=1e-4)


@pytest.mark.parametrize("box", BOXES)
def test_a_crop_shows_what_lies_where_the_map_says(box: tuple[float, float, float, float]) -> None:
    crop = cut(ramp(), box, PX)
    y, x = np.indices((PX, PX)).astype(np.float32)
    true = mapped(from_crop(box, PX), np.stack([x, y], axis=2))
    assert crop.shape == (PX, PX, 3)
    off = crop[..., :2] - true
    assert np.abs(off.mean(axis=(0, 1))).max() < 0.01
    assert np.abs(off).max() < 0.06  # OpenCV samples at 32nds of a pixel, and its cubic bends a ramp a little


@pytest.mark.parametrize("box", BOXES)
def test_cut_and_back_is_the_same_place(box: tuple[float, float, float, float]) -> None:
    patch, rows, columns = uncut(cut(ramp(), box, PX), box, SIZE)
    x0, y0, x1, y1 = box
    assert (columns.start, columns.stop, rows.start, rows.stop) == tuple(np.ceil([x0, x1, y0, y1]).astype(int))
    off = (patch - ramp()[rows, columns])[3:-3, 3:-3]
    assert np.abs(off.mean(axis=(0, 1))).max() < 0.01
    assert np.abs(off).max() < 0.25


@pytest.mark.parametrize("box", BOXES)
def test_cut_and_paste_leaves_a_smooth_picture_as_it_is(box: tuple[float, float, float, float]) -> None:
    picture = smooth()
    patch, rows, columns = uncut(cut(picture, box, PX), box, SIZE)
    off = np.abs(patch.astype(int) - picture[rows, columns])
    assert off.mean() < 1.0
    assert off.max() <= 8
    shifted = np.abs(np.roll(picture, 1, axis=1)[rows, columns].astype(int) - picture[rows, columns]).mean() / 2
    assert off.mean() < shifted / 2, "what a shift of half a pixel would do"


def test_shrinking_takes_the_mean_of_the_area() -> None:
    """Stripes of a pixel are grey; sampling every third would show them."""
    stripes = np.zeros((192, 192, 3), np.uint8)
    stripes[:, ::2] = 255
    crop = cut(stripes, (-0.5, -0.5, 191.5, 191.5), 64)
    assert np.abs(crop.astype(float) - 127.5).max() < 50
    exact = cut(np.repeat(np.repeat(smooth()[:64, :64], 3, axis=0), 3, axis=1), (-0.5, -0.5, 191.5, 191.5), 64)
    assert np.abs(exact.astype(int) - smooth()[:64, :64]).max() <= 1


def test_beyond_the_picture_its_edge_is_repeated_and_not_pasted() -> None:
    picture = np.full((160, 200, 3), 90, np.uint8)
    box = (-30.0, -20.0, 34.0, 44.0)
    crop = cut(picture, box, PX)
    assert (crop == 90).all()
    patch, rows, columns = uncut(crop, box, SIZE)
    assert (rows, columns) == (slice(0, 44), slice(0, 34))
    assert patch.shape == (44, 34, 3)
    empty, rows, columns = uncut(crop, (300.0, 20.0, 364.0, 84.0), SIZE)
    assert picture[rows, columns].shape == empty.shape
    assert empty.size == 0


def test_a_residual_is_pasted_in_floats() -> None:
    residual = np.full((PX, PX, 3), -0.25, np.float32)
    patch, _, _ = uncut(residual, BOXES[1], SIZE)
    assert patch.dtype == np.float32
    assert np.allclose(patch, -0.25, atol=1e-5)


def test_a_face_figure_is_the_crop_of_a_large_figure() -> None:
    """Drawn at the crop's scale, it shows what the picture's figure would show there, of as many pixels."""
    rng = np.random.default_rng(1)
    xy = rng.uniform(30, 130, (len(HALPE26), 2)).astype(np.float32)
    score, recipe, box = np.ones(len(HALPE26), np.float32), FigureRecipe(limb_width=0.03), (40.3, 30.7, 87.9, 78.2)
    shown = face_figure(xy, score, HALPE26, box, SIZE, 128, recipe)
    scale = 128 / (box[2] - box[0])
    large_size = (round(SIZE[0] * scale), round(SIZE[1] * scale))
    large = draw_figure((xy + 0.5) * scale - 0.5, score, HALPE26, large_size, recipe)
    large_box = tuple((v + 0.5) * scale - 0.5 for v in box)
    true = cut(large, (large_box[0], large_box[1], large_box[2], large_box[3]), 128)
    assert shown.shape == (128, 128, 3)
    assert np.abs(shown.astype(int) - true).mean() < 3
