from __future__ import annotations

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from dancedist.pose.topology import HALPE26
from dancedist.recipe.schema import FigureRecipe
from dancedist.skeleton.crop import crop_box, face_figure, from_crop, paste_box, to_crop, transform_points
from dancedist.skeleton.draw import draw_figure

SIZE = (200, 160)
# On and between whole pixels, smaller and larger than the crop.
BOXES = [(40.0, 30.0, 104.0, 94.0), (40.3, 30.7, 87.9, 78.2), (20.6, 15.1, 170.2, 150.3), (50.0, 40.0, 81.3, 71.9)]
PX = 64


def ramp() -> NDArray[np.float32]:
    """Every pixel has the value of its coordinates, so that any shift can be measured."""
    y, x = np.indices((SIZE[1], SIZE[0])).astype(np.float32)
    return np.stack([x, y, x + y], axis=2)


def smooth() -> NDArray[np.uint8]:
    noise = np.random.default_rng(0).integers(0, 255, (SIZE[1], SIZE[0], 3)).astype(np.float32)
    blurred = cv2.GaussianBlur(noise, (0, 0), 8)
    return np.asarray(((blurred - blurred.min()) / np.ptp(blurred) * 255).astype(np.uint8))


@pytest.mark.parametrize("box", BOXES)
def test_from_crop_is_the_inverse_of_to_crop(box: tuple[float, float, float, float]) -> None:
    xy = np.random.default_rng(0).uniform(0, 150, (20, 2)).astype(np.float32)
    cropped = transform_points(to_crop(box, PX), xy)
    assert np.abs(transform_points(from_crop(box, PX), cropped) - xy).max() < 1e-4
    middle = np.array([(box[0] + box[2]) / 2, (box[1] + box[3]) / 2], np.float32)
    assert transform_points(to_crop(box, PX), middle) == pytest.approx([(PX - 1) / 2] * 2, abs=1e-4)


@pytest.mark.parametrize("box", BOXES)
def test_a_crop_agrees_with_its_map(box: tuple[float, float, float, float]) -> None:
    crop = crop_box(ramp(), box, PX)
    y, x = np.indices((PX, PX)).astype(np.float32)
    true = transform_points(from_crop(box, PX), np.stack([x, y], axis=2))
    assert crop.shape == (PX, PX, 3)
    error = crop[..., :2] - true
    assert np.abs(error.mean(axis=(0, 1))).max() < 0.01
    assert np.abs(error).max() < 0.06  # OpenCV samples at 1/32 px, and its cubic filter distorts a ramp slightly


@pytest.mark.parametrize("box", BOXES)
def test_crop_and_paste_keep_positions(box: tuple[float, float, float, float]) -> None:
    patch, rows, columns = paste_box(crop_box(ramp(), box, PX), box, SIZE)
    x0, y0, x1, y1 = box
    assert (columns.start, columns.stop, rows.start, rows.stop) == tuple(np.ceil([x0, x1, y0, y1]).astype(int))
    error = (patch - ramp()[rows, columns])[3:-3, 3:-3]
    assert np.abs(error.mean(axis=(0, 1))).max() < 0.01
    assert np.abs(error).max() < 0.25


@pytest.mark.parametrize("box", BOXES)
def test_crop_and_paste_preserve_a_smooth_picture(box: tuple[float, float, float, float]) -> None:
    picture = smooth()
    patch, rows, columns = paste_box(crop_box(picture, box, PX), box, SIZE)
    error = np.abs(patch.astype(int) - picture[rows, columns])
    assert error.mean() < 1.0
    assert error.max() <= 8
    shifted = np.abs(np.roll(picture, 1, axis=1)[rows, columns].astype(int) - picture[rows, columns]).mean() / 2
    assert error.mean() < shifted / 2, "a shift of half a pixel"


def test_shrinking_averages_the_area() -> None:
    """Stripes of one pixel become grey; sampling every third pixel would show stripes."""
    stripes = np.zeros((192, 192, 3), np.uint8)
    stripes[:, ::2] = 255
    crop = crop_box(stripes, (-0.5, -0.5, 191.5, 191.5), 64)
    assert np.abs(crop.astype(float) - 127.5).max() < 50
    exact = crop_box(np.repeat(np.repeat(smooth()[:64, :64], 3, axis=0), 3, axis=1), (-0.5, -0.5, 191.5, 191.5), 64)
    assert np.abs(exact.astype(int) - smooth()[:64, :64]).max() <= 1


def test_outside_the_picture_the_edge_is_repeated_and_not_pasted() -> None:
    picture = np.full((160, 200, 3), 90, np.uint8)
    box = (-30.0, -20.0, 34.0, 44.0)
    crop = crop_box(picture, box, PX)
    assert (crop == 90).all()
    patch, rows, columns = paste_box(crop, box, SIZE)
    assert (rows, columns) == (slice(0, 44), slice(0, 34))
    assert patch.shape == (44, 34, 3)
    empty, rows, columns = paste_box(crop, (300.0, 20.0, 364.0, 84.0), SIZE)
    assert picture[rows, columns].shape == empty.shape
    assert empty.size == 0


def test_a_float_residual_stays_float() -> None:
    residual = np.full((PX, PX, 3), -0.25, np.float32)
    patch, _, _ = paste_box(residual, BOXES[1], SIZE)
    assert patch.dtype == np.float32
    assert np.allclose(patch, -0.25, atol=1e-5)


def test_a_face_figure_equals_the_crop_of_a_large_figure() -> None:
    """Drawn at the crop's scale, it equals the crop of a skeleton drawn on a picture of that scale."""
    rng = np.random.default_rng(1)
    xy = rng.uniform(30, 130, (len(HALPE26), 2)).astype(np.float32)
    score, recipe, box = np.ones(len(HALPE26), np.float32), FigureRecipe(limb_width=0.03), (40.3, 30.7, 87.9, 78.2)
    figure = face_figure(xy, score, HALPE26, box, SIZE, 128, recipe)
    scale = 128 / (box[2] - box[0])
    large_size = (round(SIZE[0] * scale), round(SIZE[1] * scale))
    large = draw_figure((xy + 0.5) * scale - 0.5, score, HALPE26, large_size, recipe)
    large_box = tuple((v + 0.5) * scale - 0.5 for v in box)
    true = crop_box(large, (large_box[0], large_box[1], large_box[2], large_box[3]), 128)
    assert figure.shape == (128, 128, 3)
    assert np.abs(figure.astype(int) - true).mean() < 3
