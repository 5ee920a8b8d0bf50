from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dancedist.data.pairs import to_pictures
from dancedist.recipe import Recipe
from dancedist.render.chunk import Part, render_together
from dancedist.render.plan import Chunk
from dancedist.render.seam import SEAM_DB, measure_seam, psnr_in_box
from dancedist.render.settle import HOLDS_FRAMES, settling_frames
from tests.unit.conftest import SIZE, moving_poses, toy_recipe
from tests.unit.dancedist.render.echo import echo


@pytest.mark.parametrize("keeps", [0.0, 0.2, 0.5])
def test_it_takes_as_long_as_the_past_is_kept(tmp_path: Path, tiny_recipe: Recipe, keeps: float) -> None:
    """Cold, the first picture lacks `keeps` of at most 2 (of black to white); each frame keeps so much of that."""
    bundle, poses = echo(tmp_path, tiny_recipe, keeps), moving_poses(60)
    found = settling_frames(bundle, poses)
    lacks = [2 * keeps ** (t + 1) for t in range(60)]
    at_most = next(t for t, value in enumerate(lacks) if value * 127.5 < 255 / 10 ** (50 / 20))
    assert found is not None and found <= at_most
    assert (found == 0) == (keeps == 0)
    if found:
        pictures = {}
        for start in (0, 20):
            made = render_together(bundle, [Part(poses, Chunk(start, 40))])
            pictures[start] = {t: to_pictures(p.whole)[0] for _, t, p in made}
        near = [psnr_in_box(pictures[0][t], pictures[20][t], None) for t in range(20 + found, 40)]
        assert min(near) >= 50


def test_one_that_never_forgets_and_one_that_has_too_little_to_show_it(tmp_path: Path, tiny_recipe: Recipe) -> None:
    assert settling_frames(echo(tmp_path, tiny_recipe, 0.99), moving_poses(60)) is None
    assert settling_frames(echo(tmp_path, tiny_recipe, 0.0), moving_poses(HOLDS_FRAMES)) is None


def test_one_without_a_past_need_not_settle(tmp_path: Path) -> None:
    assert settling_frames(echo(tmp_path, toy_recipe(temporal=False), 0.5), moving_poses(60)) == 0


def test_a_seam_is_seen_in_the_dancers_box_alone() -> None:
    poses = moving_poses(8)
    before, earlier = np.zeros((2, SIZE[1], SIZE[0], 3), np.uint8)
    later = earlier.copy()
    later[:, :2] = 255
    assert measure_seam(poses, 4, before, earlier, later).psnr_db == 100
    x, y = poses.xy[4, 0].round().astype(int)
    later[y, x] = 255
    seam = measure_seam(poses, 4, before, earlier, later)
    assert seam.psnr_db < SEAM_DB and seam.shows and seam.change_db == 100
    assert not replace(seam, faded=True).shows
