from __future__ import annotations

import logging
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from dancedist.data import target as module
from dancedist.data.target import load_target, poses_files
from dancedist.errors import Notice
from dancedist.evaluation.held_out import held_out, held_out_cuts
from dancedist.files import file_sha256
from dancedist.pose.sequence import PoseSequence
from dancedist.recipe.schema import PoseRecipe, Recipe
from dancedist.retarget.stats import RetargetStats
from dancedist.video.concat import identity
from dancedist.video.encode import write_film
from dancedist.video.probe import Video
from tests.unit.conftest import FRAMES, SIZE, moving_poses, toy_recipe


@pytest.fixture
def videos(tmp_path: Path) -> list[Path]:
    rng = np.random.default_rng(0)
    paths = [tmp_path / "a.mp4", tmp_path / "b.mp4"]
    for path in paths:
        picture = rng.integers(0, 255, (SIZE[1], SIZE[0], 3), np.uint8)
        write_film(path, (picture for _ in range(FRAMES)), Fraction(25), crf=20, x264_preset="ultrafast")
    return paths


@pytest.fixture
def extractions(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """(video, poses file) of every extraction. Extraction is replaced, because the videos are noise."""
    calls: list[tuple[str, str]] = []

    def extract(video: Video, out: Path, pose: PoseRecipe) -> PoseSequence:
        calls.append((video.path.name, out.name))
        poses = moving_poses()
        shift = 2 * (video.path.name == "b.mp4")
        notices = (*video.notices, Notice("other-people", "others are about", 7))
        return replace(poses, xy=poses.xy + np.float32(shift), notices=notices, fingerprint=video.path.stem)

    monkeypatch.setattr(module, "extract_with_progress", extract)
    return calls


def recipe_with(**data: float) -> Recipe:
    recipe = toy_recipe()
    return recipe.model_copy(update={"data": recipe.data.model_copy(update=data)})


def test_a_target_of_one_video(videos: list[Path], extractions: list[tuple[str, str]], tmp_path: Path) -> None:
    target = load_target(videos[0], recipe_with(), tmp_path / "work")
    assert extractions == [("a.mp4", "poses.parquet")]
    assert (target.name, target.sha256) == ("a.mp4", file_sha256(videos[0]))
    assert isinstance(target.video, Video)
    assert target.stats == RetargetStats.of(target.poses)
    assert target.data.cuts == ()
    assert target.data.faces is None


def test_a_target_of_several_videos(videos: list[Path], extractions: list[tuple[str, str]], tmp_path: Path) -> None:
    target = load_target(videos, toy_recipe("face"), tmp_path / "work")
    assert (tmp_path / "work" / "pictures" / "faces.npy").exists()
    assert [name for name, _ in extractions] == ["a.mp4", "b.mp4"]
    assert [tmp_path / "work" / file for _, file in extractions] == poses_files(videos, tmp_path / "work")
    assert sorted(poses_files(videos[::-1], tmp_path)) == sorted(poses_files(videos, tmp_path))
    assert (target.name, target.sha256) == identity(videos)
    assert len(target.poses) == 2 * FRAMES
    assert np.array_equal(target.poses.xy[FRAMES:], target.poses.xy[:FRAMES] + 2)
    assert FRAMES not in target.data.pairs(range(2 * FRAMES))
    assert target.data.faces is not None
    halves = [RetargetStats.of(target.poses.slice(i * FRAMES, (i + 1) * FRAMES)) for i in (0, 1)]
    assert target.stats == halves[0] + halves[1]
    messages = {(n.message, n.frame) for n in target.notices if n.slug == "other-people"}
    assert messages == {("a.mp4: others are about", 7), ("b.mp4: others are about", FRAMES + 7)}


def test_a_small_cache_is_reported(
    videos: list[Path], extractions: list[tuple[str, str]], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        target = load_target(videos, recipe_with(cache_gb=40 * SIZE[0] * SIZE[1] * 3 / 1e9), tmp_path / "work")
    assert [n.slug for n in target.notices if n.slug == "cache-short"]
    assert "of 120 frames: the cache of" in caplog.text
    assert target.data.key != load_target(videos, recipe_with(), tmp_path / "work").data.key


def test_the_held_out_block_knows_its_cuts(
    videos: list[Path], extractions: list[tuple[str, str]], tmp_path: Path
) -> None:
    target = load_target(videos, recipe_with(test_fraction=0.39, validation_fraction=0.1), tmp_path / "work")
    assert held_out_cuts(target) == frozenset()
    split = replace(target.data.split, test=range(50, 90))
    moved = replace(target, data=replace(target.data, split=split))
    assert held_out_cuts(moved) == frozenset({10})
    poses, frames = held_out(moved)
    assert len(poses) == len(frames) == 40
    assert np.array_equal(poses.xy, target.poses.xy[50:90])
