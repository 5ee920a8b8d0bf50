from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from dancedist.bundle.bundle import Bundle, load_bundle
from dancedist.data.tensors import to_pictures, to_tensor
from dancedist.pose.sequence import PoseSequence
from dancedist.recipe.loading import merged, parse_recipe, plain
from dancedist.recipe.schema import Recipe
from dancedist.render.chunk import ChunkInput, figures, input_windows, last_present, render_batch, render_chunk
from dancedist.render.plan import Chunk
from tests.unit.conftest import SIZE, moving_poses
from tests.unit.dancedist.bundle.test_bundle import make_bundle
from tests.unit.dancedist.render.echo import echo


@pytest.fixture
def bundle(tmp_path: Path, tiny_recipe: Recipe) -> Bundle:
    make_bundle(tmp_path / "ann", tiny_recipe)
    return load_bundle(tmp_path / "ann")


def rendered(bundle: Bundle, poses: PoseSequence, chunk: Chunk) -> np.ndarray:
    return np.stack([picture.rgb for picture in render_chunk(bundle, poses, chunk)])


def rounded(picture: torch.Tensor) -> torch.Tensor:
    """On the grid, as the next frame sees it."""
    return (picture * 1024).round() / 1024


def test_each_picture_depends_on_the_one_before(bundle: Bundle) -> None:
    poses = moving_poses(5)
    windows = input_windows(bundle, poses)
    assert len({(w.width, w.height) for w in windows}) == 1
    assert len({w.left for w in windows}) > 1
    assert (windows[0].width, windows[0].height) != SIZE
    assert bundle.network_background is not None
    last, expected = torch.zeros(1, 3, SIZE[1], SIZE[0]), []
    for figure, w in zip(figures(bundle, poses, Chunk(0, 5)), windows, strict=True):
        crop = (..., w.rows, w.columns)
        output = bundle.generator(to_tensor(figure[None])[crop], last[crop], bundle.network_background[crop])
        last = bundle.network_background.clone()
        last[crop] = output
        expected.append(to_pictures(last)[0])
        last = rounded(last)
    assert np.array_equal(rendered(bundle, poses, Chunk(0, 5)), np.stack(expected))


def test_without_a_window_the_network_sees_the_whole_picture(tmp_path: Path, tiny_recipe: Recipe) -> None:
    no_window = {"generator": {"window": False, "background": False}, "training": {"rotation_degrees": 0.0}}
    recipe = parse_recipe(merged(plain(tiny_recipe), no_window))
    make_bundle(tmp_path / "plain", recipe)
    bundle, poses = load_bundle(tmp_path / "plain"), moving_poses(3)
    last, expected = torch.zeros(1, 3, SIZE[1], SIZE[0]), []
    for figure in figures(bundle, poses, Chunk(0, 3)):
        last = bundle.generator(to_tensor(figure[None]), last)
        expected.append(to_pictures(last)[0])
        last = rounded(last)
    assert np.array_equal(rendered(bundle, poses, Chunk(0, 3)), np.stack(expected))
    assert all(picture.alpha.min() == 255 for picture in render_chunk(bundle, poses, Chunk(0, 1)))


def test_renderings_with_other_starts_become_equal_to_the_bit(tmp_path: Path, tiny_recipe: Recipe) -> None:
    """The difference halves with every frame: on the grid it is gone after 20 frames, in floats after 35."""
    bundle, poses = echo(tmp_path, tiny_recipe, 0.5), moving_poses(60)
    early, late = ({t: p.state for _, t, p in render_batch(bundle, [ChunkInput(poses, Chunk(s, 60))])} for s in (0, 10))
    unequal = [t for t in range(10, 60) if not torch.equal(early[t], late[t])]
    assert unequal == [*range(10, 10 + len(unequal))] and 10 < len(unequal) < 28


def test_warm_up_is_rendered_and_dropped(bundle: Bundle) -> None:
    poses = moving_poses(8)
    continuous = rendered(bundle, poses, Chunk(0, 8))
    warmed = rendered(bundle, poses, Chunk(5, 8, warm_up=5))
    assert np.array_equal(continuous[5:], warmed)
    cold = rendered(bundle, poses, Chunk(5, 8))
    assert not np.array_equal(cold[0], continuous[5])


def test_a_frame_without_a_dancer_repeats_the_last_pose(bundle: Bundle) -> None:
    poses = moving_poses(6)
    xy, score = poses.xy.copy(), poses.score.copy()
    xy[[0, 3, 4]], score[[0, 3, 4]] = np.nan, 0
    with_gaps = replace(poses, xy=xy, score=score)
    assert last_present(with_gaps).tolist() == [1, 1, 2, 2, 2, 5]
    drawn = list(figures(bundle, with_gaps, Chunk(0, 6)))
    assert np.array_equal(drawn[4], drawn[2])


def test_a_batch_renders_each_chunk_as_alone(bundle: Bundle) -> None:
    """Chunks of two dances with windows of different sizes; one chunk ends before the others."""
    poses, wide = moving_poses(9), moving_poses(9)
    xy = wide.xy.copy()
    xy[..., 0] = xy[..., 0] * 1.4 - 8
    wide = replace(wide, xy=xy)
    assert input_windows(bundle, poses)[0].width != input_windows(bundle, wide)[0].width
    inputs = [
        ChunkInput(poses, Chunk(0, 4, tail=1)),
        ChunkInput(poses, Chunk(4, 9, warm_up=2)),
        ChunkInput(wide, Chunk(2, 5)),
    ]
    pictures: dict[int, list[np.ndarray]] = {0: [], 1: [], 2: []}
    frames: dict[int, list[int]] = {0: [], 1: [], 2: []}
    for i, t, picture in render_batch(bundle, inputs):
        pictures[i].append(picture.rgb)
        frames[i].append(t)
    assert frames == {0: [0, 1, 2, 3, 4], 1: [4, 5, 6, 7, 8], 2: [2, 3, 4]}
    for i, chunk_input in enumerate(inputs):
        alone = rendered(bundle, chunk_input.poses, chunk_input.chunk)
        assert np.abs(np.stack(pictures[i]).astype(int) - alone).max() <= 1


def test_rendering_continues_from_a_given_state(bundle: Bundle) -> None:
    poses = moving_poses(8)
    pictures = list(render_chunk(bundle, poses, Chunk(0, 8)))
    continued = render_batch(bundle, [ChunkInput(poses, Chunk(5, 8), pictures[4].state)])
    assert all(np.array_equal(picture.rgb, pictures[t].rgb) for _, t, picture in continued)
