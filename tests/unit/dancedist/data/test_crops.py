from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from dancedist.data.crops import View, head_and_part, pair_views, picture_pixels
from dancedist.data.pairs import TargetData
from dancedist.recipe.schema import Recipe
from dancedist.skeleton.window import Window, full_window
from dancedist.training.loop import Trainer
from tests.unit.conftest import SIZE, moving_poses

T = np.array([5, 20, 33])


def rng(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_views_of_a_step_have_one_size_and_contain_the_dancer(toy_target: TargetData, tiny_recipe: Recipe) -> None:
    poses = toy_target.poses
    for seed in range(20):
        views = pair_views(poses, T, tiny_recipe, rng(seed))
        assert len({(v.window.width, v.window.height) for v in views}) == 1
        for t, view in zip(T, views, strict=True):
            w, xy = view.window, view.points(poses.xy[t - 1 : t + 1])
            inside = (xy >= (w.left - 0.5, w.top - 0.5)) & (xy <= (w.left + w.width, w.top + w.height))
            # The edge of the picture may cut off a rotated skeleton.
            assert inside.mean() > 0.9


def test_random_views_are_shifted_and_some_are_rotated(toy_target: TargetData, tiny_recipe: Recipe) -> None:
    views = [pair_views(toy_target.poses, T[:1], tiny_recipe, rng(seed))[0] for seed in range(30)]
    rotated = [v for v in views if v.rotation is not None]
    assert 5 < len(rotated) < 25
    assert len({(v.window.left, v.window.top) for v in views}) > 5
    upright = pair_views(toy_target.poses, T[:1], tiny_recipe)[0]
    assert upright.rotation is None
    assert upright.window.width <= min(v.window.width for v in views if v.rotation is None)


def test_a_picture_and_its_points_are_rotated_alike() -> None:
    picture = np.zeros((90, 120, 3), np.uint8)
    point = np.array([[70.0, 40.0]], np.float32)
    cv2.circle(picture, (70, 40), 3, (255, 255, 255), -1)
    rotation = cv2.getRotationMatrix2D((60, 45), 35.0, 1.0)
    view = View(Window(16, 8, 96, 72), rotation)
    cropped = view.crop(picture)[..., 0].astype(float)
    ys, xs = np.mgrid[: cropped.shape[0], : cropped.shape[1]]
    centre = np.array([(xs * cropped).sum(), (ys * cropped).sum()]) / cropped.sum() + (16, 8)
    assert np.abs(centre - view.points(point)[0]).max() < 0.1
    assert not np.allclose(view.points(point), point, atol=1)


def test_without_windows_views_show_the_whole_picture(toy_target: TargetData, tiny_recipe: Recipe) -> None:
    generator = tiny_recipe.generator.model_copy(update={"window": False})
    recipe = tiny_recipe.model_copy(update={"generator": generator})
    views = pair_views(toy_target.poses, T, recipe, rng(0))
    assert {v.window for v in views} == {full_window(SIZE)}
    assert picture_pixels(moving_poses(), recipe) == recipe.generator.pixels


def test_every_step_crops_the_head(toy_target: TargetData, tiny_recipe: Recipe) -> None:
    poses, side = toy_target.poses, 12
    for seed in range(20):
        view = pair_views(poses, T[:1], tiny_recipe, rng(seed))[0]
        corners = head_and_part(poses, int(T[0]), view, side, 0.3, rng(seed))
        nose = view.points(poses.xy[T[0], poses.topology.index["nose"]]) - (view.window.left, view.window.top)
        assert all(0 <= x <= view.window.width - side and 0 <= y <= view.window.height - side for x, y in corners)
        if view.rotation is None:
            assert (np.abs(nose - corners[0] - side / 2) <= side / 2).all()


def test_a_dancer_without_a_visible_nose_is_cropped_too(toy_target: TargetData, tiny_recipe: Recipe) -> None:
    score = toy_target.poses.score.copy()
    score[:, toy_target.poses.topology.index["nose"]] = 0
    poses = replace(toy_target.poses, score=score)
    assert len(head_and_part(poses, 5, View(full_window(SIZE)), 12, 0.3, rng(0))) == 2


@pytest.mark.parametrize("pixels", [20_000, 40_000])
def test_windows_have_the_recipes_area_on_average(tiny_recipe: Recipe, pixels: int) -> None:
    frame = (960, 720)
    generator = tiny_recipe.generator.model_copy(update={"pixels": pixels})
    recipe = tiny_recipe.model_copy(update={"generator": generator})
    poses = moving_poses(60, frame)
    scale = np.sqrt(picture_pixels(poses, recipe) / (frame[0] * frame[1]))
    size = (round(frame[0] * scale), round(frame[1] * scale))
    small = replace(poses, xy=poses.xy * np.float32(scale), size=size)
    areas = [
        v.window.width * v.window.height
        for seed in range(40)
        for v in pair_views(small, np.array([1 + seed]), recipe, rng(seed))
        if v.rotation is None
    ]
    assert 0.9 * pixels < np.mean(areas) < 1.25 * pixels


def test_the_picture_is_never_larger_than_the_frame(tiny_recipe: Recipe) -> None:
    assert (
        picture_pixels(
            moving_poses(),
            tiny_recipe.model_copy(update={"generator": tiny_recipe.generator.model_copy(update={"pixels": 10**6})}),
        )
        == SIZE[0] * SIZE[1]
    )


def test_a_step_has_the_same_windows_after_a_restart_and_the_next_step_others(
    toy_target: TargetData, tiny_recipe: Recipe, tmp_path: Path
) -> None:
    trainers = [Trainer(toy_target, tiny_recipe, tmp_path / n, "key", np.zeros((64, 48, 3), np.uint8)) for n in "ab"]

    def windows(trainer: Trainer) -> list[Window]:
        rng = trainer.stage.context.rng(2, trainer.step, 0)
        return [v.window for v in pair_views(toy_target.poses, T, tiny_recipe, rng)]

    first = windows(trainers[0])
    assert first == windows(trainers[1])
    for trainer in trainers:
        trainer.train_step()
    assert first != windows(trainers[0]) == windows(trainers[1])
