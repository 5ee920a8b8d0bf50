from __future__ import annotations

import logging
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from dancedist.errors import Notice
from dancedist.evaluation import evaluation
from dancedist.pose.sequence import PoseSequence
from dancedist.recipe import PoseRecipe, Recipe, file_sha256
from dancedist.retarget.stats import RetargetStats
from dancedist.training import target as module
from dancedist.training.target import load_target, poses_files
from dancedist.video.concat import identity
from dancedist.video.encode import write_film
from dancedist.video.probe import Video
from tests.unit.conftest import FRAMES, SIZE, moving_poses, toy_recipe


@pytest.fixture
def films(tmp_path: Path) -> list[Path]:
    rng = np.random.default_rng(0)
    paths = [tmp_path / "a.mp4", tmp_path / "b.mp4"]
    for path in paths:
        picture = rng.integers(0, 255, (SIZE[1], SIZE[0], 3), np.uint8)
        write_film(path, (picture for _ in range(FRAMES)), Fraction(25), crf=20, speed="ultrafast")
    return paths


@pytest.fixture
def found(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """(video, poses file) of every extraction: the networks find nobody in noise."""
    asked: list[tuple[str, str]] = []

    def extract(video: Video, out: Path, pose: PoseRecipe) -> PoseSequence:
        asked.append((video.path.name, out.name))
        poses = moving_poses()
        shift = 2 * (video.path.name == "b.mp4")
        notices = (*video.notices, Notice("other-people", "others are about", 7))
        return replace(poses, xy=poses.xy + np.float32(shift), notices=notices, fingerprint=video.path.stem)

    monkeypatch.setattr(module, "extract_with_progress", extract)
    return asked


def small(**data: float) -> Recipe:
    recipe = toy_recipe()
    return recipe.model_copy(update={"data": recipe.data.model_copy(update=data)})


def test_one_video_is_as_it_was(films: list[Path], found: list[tuple[str, str]], tmp_path: Path) -> None:
    target = load_target(films[0], small(), tmp_path / "work")
    assert found == [("a.mp4", "poses.parquet")]
    assert (target.name, target.sha256) == ("a.mp4", file_sha256(films[0]))
    assert isinstance(target.video, Video)
    assert target.stats == RetargetStats.of(target.poses)
    assert target.data.cuts == ()
    assert target.data.faces is None


def test_several_videos_are_one_target(films: list[Path], found: list[tuple[str, str]], tmp_path: Path) -> None:
    target = load_target(films, toy_recipe("face"), tmp_path / "work")
    assert (tmp_path / "work" / "pictures" / "faces.npy").exists()
    assert [name for name, _ in found] == ["a.mp4", "b.mp4"]
    assert [tmp_path / "work" / file for _, file in found] == poses_files(films, tmp_path / "work")
    assert sorted(poses_files(films[::-1], tmp_path)) == sorted(poses_files(films, tmp_path))
    assert (target.name, target.sha256) == identity(films)
    assert len(target.poses) == 2 * FRAMES
    assert np.array_equal(target.poses.xy[FRAMES:], target.poses.xy[:FRAMES] + 2)
    assert FRAMES not in target.data.pairs(range(2 * FRAMES))
    assert target.data.faces is not None
    halves = [RetargetStats.of(target.poses.slice(i * FRAMES, (i + 1) * FRAMES)) for i in (0, 1)]
    assert target.stats == halves[0] + halves[1]
    told = {(n.message, n.frame) for n in target.notices if n.slug == "other-people"}
    assert told == {("a.mp4: others are about", 7), ("b.mp4: others are about", FRAMES + 7)}


def test_a_short_cache_is_told(
    films: list[Path], found: list[tuple[str, str]], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        target = load_target(films, small(cache_gb=40 * SIZE[0] * SIZE[1] * 3 / 1e9), tmp_path / "work")
    assert [n.slug for n in target.notices if n.slug == "cache-short"]
    assert "of 120 frames: the cache of" in caplog.text
    assert target.data.key != load_target(films, small(), tmp_path / "work").data.key


def test_what_is_held_out_knows_its_cuts(films: list[Path], found: list[tuple[str, str]], tmp_path: Path) -> None:
    target = load_target(films, small(test_fraction=0.39, validation_fraction=0.1), tmp_path / "work")
    assert evaluation.held_out_cuts(target) == frozenset()
    split = replace(target.data.split, test=range(50, 90))
    moved = replace(target, data=replace(target.data, split=split))
    assert evaluation.held_out_cuts(moved) == frozenset({10})
    poses, frames = evaluation.held_out(moved)
    assert len(poses) == len(frames) == 40
    assert np.array_equal(poses.xy, target.poses.xy[50:90])
