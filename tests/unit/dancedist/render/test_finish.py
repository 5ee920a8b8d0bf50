from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from dancedist.bundle.bundle import load_bundle
from dancedist.data.pairs import to_tensor
from dancedist.recipe import Recipe
from dancedist.render.finish import Finish, Picture
from tests.unit.dancedist.bundle.test_bundle import make_bundle

FRAME = (120, 160)


def test_the_stage_keeps_its_detail_where_nothing_is_painted(tmp_path: Path, tiny_recipe: Recipe) -> None:
    make_bundle(tmp_path / "ann", tiny_recipe, frame_size=FRAME)
    bundle = load_bundle(tmp_path / "ann")
    assert bundle.stage is not None
    small = bundle.fit.to_picture(bundle.stage)
    clear, full = np.zeros(small.shape[:2], np.uint8), np.full(small.shape[:2], 255, np.uint8)
    finish = Finish(bundle)
    assert np.array_equal(finish(Picture(small, clear, to_tensor(small[None]))), bundle.stage)
    assert np.array_equal(finish(Picture(small, full, to_tensor(small[None]))), bundle.fit.to_frame(small))


def test_without_a_stage_a_picture_is_enlarged(tmp_path: Path, tiny_recipe: Recipe) -> None:
    make_bundle(tmp_path / "ann", tiny_recipe, frame_size=FRAME)
    bundle = replace(load_bundle(tmp_path / "ann"), stage=None)
    small = bundle.fit.to_picture(np.random.default_rng(1).integers(0, 255, (FRAME[1], FRAME[0], 3), np.uint8))
    shown = Finish(bundle)(Picture(small, np.zeros(small.shape[:2], np.uint8), to_tensor(small[None])))
    assert np.array_equal(shown, bundle.fit.to_frame(small))
