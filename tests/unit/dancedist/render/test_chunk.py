from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from dancedist.bundle.bundle import Bundle, load_bundle
from dancedist.data.pairs import to_pictures, to_tensor
from dancedist.pose.sequence import PoseSequence
from dancedist.recipe import Recipe, merged, parse_recipe
from dancedist.render.chunk import Part, figures, last_present, render_chunk, render_together, seen_windows
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
    """As it is handed on."""
    return (picture * 1024).round() / 1024


def test_each_picture_is_made_from_the_one_before(bundle: Bundle) -> None:
    poses = moving_poses(5)
    windows = seen_windows(bundle, poses)
    assert len({(w.width, w.height) for w in windows}) == 1
    assert len({w.left for w in windows}) > 1
    assert (windows[0].width, windows[0].height) != SIZE
    assert bundle.backdrop is not None
    last, expected = torch.zeros(1, 3, SIZE[1], SIZE[0]), []
    for figure, w in zip(figures(bundle, poses, Chunk(0, 5)), windows, strict=True):
        seen = (..., w.rows, w.columns)
        part = bundle.generator(to_tensor(figure[None])[seen], last[seen], bundle.backdrop[seen])
        last = bundle.backdrop.clone()
        last[seen] = part
        expected.append(to_pictures(last)[0])
        last = rounded(last)
    assert np.array_equal(rendered(bundle, poses, Chunk(0, 5)), np.stack(expected))


def test_without_a_window_the_network_sees_all(tmp_path: Path, tiny_recipe: Recipe) -> None:
    plain = {"generator": {"window": False, "backdrop": False}, "training": {"turn_degrees": 0.0}}
    settings = tiny_recipe.model_dump()
    recipe = parse_recipe(merged(settings, plain))
    make_bundle(tmp_path / "plain", recipe)
    bundle, poses = load_bundle(tmp_path / "plain"), moving_poses(3)
    last, expected = torch.zeros(1, 3, SIZE[1], SIZE[0]), []
    for figure in figures(bundle, poses, Chunk(0, 3)):
        last = bundle.generator(to_tensor(figure[None]), last)
        expected.append(to_pictures(last)[0])
        last = rounded(last)
    assert np.array_equal(rendered(bundle, poses, Chunk(0, 3)), np.stack(expected))
    assert all(picture.painted.min() == 255 for picture in render_chunk(bundle, poses, Chunk(0, 1)))


def test_two_renderings_become_one_to_the_bit(tmp_path: Path, tiny_recipe: Recipe) -> None:
    """The difference halves with every frame. On the grid it is gone after 20 of them; in floats it took 35."""
    bundle, poses = echo(tmp_path, tiny_recipe, 0.5), moving_poses(60)
    early, late = ({t: p.whole for _, t, p in render_together(bundle, [Part(poses, Chunk(s, 60))])} for s in (0, 10))
    apart = [t for t in range(10, 60) if not torch.equal(early[t], late[t])]
    assert apart == [*range(10, 10 + len(apart))] and 10 < len(apart) < 28


def test_warm_up_is_rendered_and_dropped(bundle: Bundle) -> None:
    poses = moving_poses(8)
    whole = rendered(bundle, poses, Chunk(0, 8))
    warmed = rendered(bundle, poses, Chunk(5, 8, warm_up=5))
    assert np.array_equal(whole[5:], warmed)
    cold = rendered(bundle, poses, Chunk(5, 8))
    assert not np.array_equal(cold[0], whole[5])


def test_a_frame_without_dancer_holds_the_last_pose(bundle: Bundle) -> None:
    poses = moving_poses(6)
    xy, score = poses.xy.copy(), poses.score.copy()
    xy[[0, 3, 4]], score[[0, 3, 4]] = np.nan, 0
    holey = replace(poses, xy=xy, score=score)
    assert last_present(holey).tolist() == [1, 1, 2, 2, 2, 5]
    drawn = list(figures(bundle, holey, Chunk(0, 6)))
    assert np.array_equal(drawn[4], drawn[2])


def test_chunks_in_lockstep_are_what_each_is_alone(bundle: Bundle) -> None:
    """Of one dance and of another, whose windows are larger; one ends before the others."""
    poses, wide = moving_poses(9), moving_poses(9)
    xy = wide.xy.copy()
    xy[..., 0] = xy[..., 0] * 1.4 - 8
    wide = replace(wide, xy=xy)
    assert seen_windows(bundle, poses)[0].width != seen_windows(bundle, wide)[0].width
    parts = [Part(poses, Chunk(0, 4, tail=1)), Part(poses, Chunk(4, 9, warm_up=2)), Part(wide, Chunk(2, 5))]
    together: dict[int, list[np.ndarray]] = {0: [], 1: [], 2: []}
    frames: dict[int, list[int]] = {0: [], 1: [], 2: []}
    for i, t, picture in render_together(bundle, parts):
        together[i].append(picture.rgb)
        frames[i].append(t)
    assert frames == {0: [0, 1, 2, 3, 4], 1: [4, 5, 6, 7, 8], 2: [2, 3, 4]}
    for i, part in enumerate(parts):
        alone = rendered(bundle, part.poses, part.chunk)
        assert np.abs(np.stack(together[i]).astype(int) - alone).max() <= 1


def test_what_another_rendered_is_gone_on_from(bundle: Bundle) -> None:
    poses = moving_poses(8)
    pictures = list(render_chunk(bundle, poses, Chunk(0, 8)))
    went_on = render_together(bundle, [Part(poses, Chunk(5, 8), pictures[4].whole)])
    assert all(np.array_equal(picture.rgb, pictures[t].rgb) for _, t, picture in went_on)
