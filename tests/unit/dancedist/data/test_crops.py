from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from dancedist.data.crops import View, head_and_part, pair_views, picture_pixels
from dancedist.data.pairs import TargetData
from dancedist.recipe import Recipe
from dancedist.skeleton.window import Window, whole
from dancedist.training.loop import Trainer
from tests.unit.conftest import SIZE, moving_poses

T = np.array([5, 20, 33])


def rng(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_views_of_a_step_are_of_one_size_and_hold_the_dancer(toy_target: TargetData, tiny_recipe: Recipe) -> None:
    poses = toy_target.poses
    for seed in range(20):
        views = pair_views(poses, T, tiny_recipe, rng(seed))
        assert len({(v.window.width, v.window.height) for v in views}) == 1
        for t, view in zip(T, views, strict=True):
            w, xy = view.window, view.points(poses.xy[t - 1 : t + 1])
            inside = (xy >= (w.left - 0.5, w.top - 0.5)) & (xy <= (w.left + w.width, w.top + w.height))
            # A picture's edge may cut a turned figure off.
            assert inside.mean() > 0.9


def test_chance_moves_and_turns_them(toy_target: TargetData, tiny_recipe: Recipe) -> None:
    views = [pair_views(toy_target.poses, T[:1], tiny_recipe, rng(seed))[0] for seed in range(30)]
    turned = [v for v in views if v.turn is not None]
    assert 5 < len(turned) < 25
    assert len({(v.window.left, v.window.top) for v in views}) > 5
    still = pair_views(toy_target.poses, T[:1], tiny_recipe)[0]
    assert still.turn is None
    assert still.window.width <= min(v.window.width for v in views if v.turn is None)


def test_a_picture_and_its_points_are_turned_alike() -> None:
    picture = np.zeros((90, 120, 3), np.uint8)
    point = np.array([[70.0, 40.0]], np.float32)
    cv2.circle(picture, (70, 40), 3, (255, 255, 255), -1)
    turn = cv2.getRotationMatrix2D((60, 45), 35.0, 1.0)
    view = View(Window(16, 8, 96, 72), turn)
    seen = view.look(picture)[..., 0].astype(float)
    ys, xs = np.mgrid[: seen.shape[0], : seen.shape[1]]
    found = np.array([(xs * seen).sum(), (ys * seen).sum()]) / seen.sum() + (16, 8)
    assert np.abs(found - view.points(point)[0]).max() < 0.1
    assert not np.allclose(view.points(point), point, atol=1)


def test_without_windows_the_picture_is_seen_whole(toy_target: TargetData, tiny_recipe: Recipe) -> None:
    generator = tiny_recipe.generator.model_copy(update={"window": False})
    recipe = tiny_recipe.model_copy(update={"generator": generator})
    views = pair_views(toy_target.poses, T, recipe, rng(0))
    assert {v.window for v in views} == {whole(SIZE)}
    assert picture_pixels(moving_poses(), recipe) == recipe.generator.pixels


def test_the_head_is_looked_at_in_every_step(toy_target: TargetData, tiny_recipe: Recipe) -> None:
    poses, side = toy_target.poses, 12
    for seed in range(20):
        view = pair_views(poses, T[:1], tiny_recipe, rng(seed))[0]
        corners = head_and_part(poses, int(T[0]), view, side, 0.3, rng(seed))
        nose = view.points(poses.xy[T[0], poses.topology.index["nose"]]) - (view.window.left, view.window.top)
        assert all(0 <= x <= view.window.width - side and 0 <= y <= view.window.height - side for x, y in corners)
        if view.turn is None:
            assert (np.abs(nose - corners[0] - side / 2) <= side / 2).all()


def test_a_dancer_from_behind_is_looked_at_all_the_same(toy_target: TargetData, tiny_recipe: Recipe) -> None:
    score = toy_target.poses.score.copy()
    score[:, toy_target.poses.topology.index["nose"]] = 0
    poses = replace(toy_target.poses, score=score)
    assert len(head_and_part(poses, 5, View(whole(SIZE)), 12, 0.3, rng(0))) == 2


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
        if v.turn is None
    ]
    assert 0.9 * pixels < np.mean(areas) < 1.25 * pixels


def test_a_dancer_is_never_enlarged(tiny_recipe: Recipe) -> None:
    assert (
        picture_pixels(
            moving_poses(),
            tiny_recipe.model_copy(update={"generator": tiny_recipe.generator.model_copy(update={"pixels": 10**6})}),
        )
        == SIZE[0] * SIZE[1]
    )


def test_a_step_sees_the_same_after_a_restart_and_the_next_one_something_else(
    toy_target: TargetData, tiny_recipe: Recipe, tmp_path: Path
) -> None:
    trainers = [Trainer(toy_target, tiny_recipe, tmp_path / n, "key", np.zeros((64, 48, 3), np.uint8)) for n in "ab"]

    def windows(trainer: Trainer) -> list[Window]:
        return [
            v.window for v in pair_views(toy_target.poses, T, tiny_recipe, trainer.stage.lesson.rng(2, trainer.step, 0))
        ]

    first = windows(trainers[0])
    assert first == windows(trainers[1])
    for trainer in trainers:
        trainer.train_step()
    assert first != windows(trainers[0]) == windows(trainers[1])
