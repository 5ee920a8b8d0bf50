from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from dancedist.recipe.schema import Recipe
from dancedist.render.film import render_frames
from dancedist.render.portrait import portrait
from tests.unit.conftest import moving_poses
from tests.unit.dancedist.render.echo import echo


def test_it_is_a_crop_of_the_frame_with_the_best_pose(tmp_path: Path, tiny_recipe: Recipe) -> None:
    bundle, poses = echo(tmp_path, tiny_recipe, 0.0), moving_poses(30)
    score = np.full_like(poses.score, 0.5)
    score[20] = 1
    picture = portrait(bundle, replace(poses, score=score))
    assert picture is not None
    *_, frame = render_frames(bundle, poses.slice(8, 21))
    side = len(picture)
    matches = [
        (y, x)
        for y in range(len(frame) - side + 1)
        for x in range(frame.shape[1] - side + 1)
        if np.array_equal(frame[y : y + side, x : x + side], picture)
    ]
    assert matches
    xy, (y, x) = poses.xy[20], matches[0]
    inside = (xy >= [x, y]).all(axis=1) & (xy <= [x + side, y + side]).all(axis=1)
    assert inside.mean() > 0.9


def test_without_a_dancer_there_is_no_portrait(tmp_path: Path, tiny_recipe: Recipe) -> None:
    poses = moving_poses(10)
    absent = replace(poses, xy=np.full_like(poses.xy, np.nan), score=np.zeros_like(poses.score))
    assert portrait(echo(tmp_path, tiny_recipe, 0.0), absent) is None
