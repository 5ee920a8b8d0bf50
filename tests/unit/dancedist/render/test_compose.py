from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from dancedist.bundle.bundle import load_bundle
from dancedist.data.tensors import to_tensor
from dancedist.recipe.schema import Recipe
from dancedist.render.compose import FrameComposer, Picture
from tests.unit.dancedist.bundle.test_bundle import make_bundle

FRAME = (120, 160)


def test_background_detail_is_added_where_nothing_is_painted(tmp_path: Path, tiny_recipe: Recipe) -> None:
    make_bundle(tmp_path / "ann", tiny_recipe, frame_size=FRAME)
    bundle = load_bundle(tmp_path / "ann")
    assert bundle.background is not None
    small = bundle.letterbox.to_picture(bundle.background)
    clear, full = np.zeros(small.shape[:2], np.uint8), np.full(small.shape[:2], 255, np.uint8)
    compose = FrameComposer(bundle)
    assert np.array_equal(compose(Picture(small, clear, to_tensor(small[None]))), bundle.background)
    assert np.array_equal(compose(Picture(small, full, to_tensor(small[None]))), bundle.letterbox.to_frame(small))


def test_without_a_background_a_picture_is_only_enlarged(tmp_path: Path, tiny_recipe: Recipe) -> None:
    make_bundle(tmp_path / "ann", tiny_recipe, frame_size=FRAME)
    bundle = replace(load_bundle(tmp_path / "ann"), background=None)
    small = bundle.letterbox.to_picture(np.random.default_rng(1).integers(0, 255, (FRAME[1], FRAME[0], 3), np.uint8))
    frame = FrameComposer(bundle)(Picture(small, np.zeros(small.shape[:2], np.uint8), to_tensor(small[None])))
    assert np.array_equal(frame, bundle.letterbox.to_frame(small))
