from __future__ import annotations

import tempfile
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest

from dancedist.bundle.bundle import PORTRAIT, load_bundle
from dancedist.evaluation import evaluation as ev
from dancedist.pose.sequence import PoseSequence
from dancedist.pose.topology import HALPE26
from dancedist.recipe import PoseRecipe, Recipe
from dancedist.render.settle import settling_frames
from tests.unit.conftest import moving_poses
from tests.unit.dancedist.render.echo import echo


def test_a_still_picture_is_looked_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[Any] = []

    class Detector:
        def __init__(self, recipe: PoseRecipe) -> None:
            pass

        def segment(self, frames: Iterable[Any]) -> int:
            seen = [*frames]
            looked.extend(seen)
            return len(seen)

    def follow(people: list[int]) -> tuple[Any, Any, tuple[()]]:
        return np.full((sum(people), 26, 2), 7, np.float32), np.ones((sum(people), 26), np.float32), ()

    monkeypatch.setattr(ev, "PeopleDetector", Detector)
    monkeypatch.setattr(ev, "follow", follow)
    redetect, picture = ev.redetector(PoseRecipe()), np.zeros((4, 6, 3), np.uint8)
    xy, score = redetect(np.broadcast_to(picture, (300, 4, 6, 3)))
    assert (xy.shape, score.shape, len(looked)) == ((300, 26, 2), (300, 26), 1)
    xy, _ = redetect(np.stack([picture] * 300))
    assert (len(xy), len(looked)) == (300, 301)


def test_a_frame_that_does_not_decode_repeats_the_one_before() -> None:
    a, b = (np.full((2, 3, 3), value, np.uint8) for value in (7, 9))
    shown = ev.stacked(iter([None, a, None, b]), 4)
    assert shown[:, 0, 0, 0].tolist() == [0, 7, 7, 9]


def test_frames_are_in_a_file_that_has_no_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    shown = ev.stacked((np.full((4, 4, 3), t, np.uint8) for t in range(5)), 5)
    assert isinstance(shown, np.memmap)
    assert not [*tmp_path.iterdir()]
    assert shown.mean(axis=(1, 2, 3)).tolist() == [0, 1, 2, 3, 4]


def test_what_is_scored_begins_with_a_dancer() -> None:
    xy, score = np.zeros((900, 26, 2), np.float32), np.ones((900, 26), np.float32)
    xy[:450], score[:450] = np.nan, 0
    poses = PoseSequence(xy, score, HALPE26, Fraction(25), (64, 64))
    assert ev.scored_range(poses, range(900)) == range(450, 450 + ev.MAX_FRAMES)
    assert ev.scored_range(poses, range(700, 800)) == range(700, 800)
    assert ev.scored_range(poses, range(100)) == range(100)


def test_a_finished_dancer_is_looked_over_once(tmp_path: Path, tiny_recipe: Recipe) -> None:
    bundle, poses = echo(tmp_path, tiny_recipe, 0.5), moving_poses(80)
    data = SimpleNamespace(split=SimpleNamespace(validation=range(10, 70)))
    target: Any = SimpleNamespace(poses=poses, data=data)
    noted = ev.look_over(tmp_path / "ann", bundle, target)
    frames = noted.dancer.settling_frames
    assert frames == settling_frames(bundle, poses.slice(10, 70)) and frames is not None and frames > 1
    assert load_bundle(tmp_path / "ann").dancer.settling_frames == frames
    assert f"in {frames} frames" in (tmp_path / "ann" / "README.md").read_text()
    picture = cv2.imread(str(tmp_path / "ann" / PORTRAIT))
    assert picture.shape[0] == picture.shape[1] <= min(bundle.dancer.frame_size)
    before = (tmp_path / "ann" / PORTRAIT).stat().st_mtime_ns
    assert ev.look_over(tmp_path / "ann", noted, target) is noted
    assert (tmp_path / "ann" / PORTRAIT).stat().st_mtime_ns == before
