from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dancedist.data.tensors import to_pictures
from dancedist.recipe.schema import Recipe
from dancedist.render.chunk import ChunkInput, render_batch
from dancedist.render.plan import Chunk
from dancedist.render.seam import SEAM_DB, measure_seam, psnr_in_box
from dancedist.render.settling import HOLDS_FRAMES, settling_frames
from tests.unit.conftest import SIZE, moving_poses, toy_recipe
from tests.unit.dancedist.render.echo import echo


@pytest.mark.parametrize("keeps", [0.0, 0.2, 0.5])
def test_settling_takes_as_long_as_the_state_is_remembered(tmp_path: Path, tiny_recipe: Recipe, keeps: float) -> None:
    """A cold first picture is off by `keeps` times at most 2 (black to white); each frame keeps that part of it."""
    bundle, poses = echo(tmp_path, tiny_recipe, keeps), moving_poses(60)
    frames = settling_frames(bundle, poses)
    errors = [2 * keeps ** (t + 1) for t in range(60)]
    at_most = next(t for t, value in enumerate(errors) if value * 127.5 < 255 / 10 ** (50 / 20))
    assert frames is not None and frames <= at_most
    assert (frames == 0) == (keeps == 0)
    if frames:
        pictures = {}
        for start in (0, 20):
            rendered = render_batch(bundle, [ChunkInput(poses, Chunk(start, 40))])
            pictures[start] = {t: to_pictures(p.state)[0] for _, t, p in rendered}
        decibels = [psnr_in_box(pictures[0][t], pictures[20][t], None) for t in range(20 + frames, 40)]
        assert min(decibels) >= 50


def test_none_if_it_does_not_settle_or_the_poses_are_too_few(tmp_path: Path, tiny_recipe: Recipe) -> None:
    assert settling_frames(echo(tmp_path, tiny_recipe, 0.99), moving_poses(60)) is None
    assert settling_frames(echo(tmp_path, tiny_recipe, 0.0), moving_poses(HOLDS_FRAMES)) is None


def test_a_dancer_that_sees_no_past_needs_no_settling(tmp_path: Path) -> None:
    assert settling_frames(echo(tmp_path, toy_recipe(temporal=False), 0.5), moving_poses(60)) == 0


def test_a_seam_is_measured_in_the_dancers_box_only() -> None:
    poses = moving_poses(8)
    before, earlier = np.zeros((2, SIZE[1], SIZE[0], 3), np.uint8)
    later = earlier.copy()
    later[:, :2] = 255
    assert measure_seam(poses, 4, before, earlier, later).psnr_db == 100
    x, y = poses.xy[4, 0].round().astype(int)
    later[y, x] = 255
    seam = measure_seam(poses, 4, before, earlier, later)
    assert seam.psnr_db < SEAM_DB and seam.visible and seam.change_db == 100
    assert not replace(seam, faded=True).visible
