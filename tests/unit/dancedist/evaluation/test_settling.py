from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2

from dancedist.bundle.bundle import load_bundle
from dancedist.bundle.record import PORTRAIT
from dancedist.evaluation.settling import measure_settling
from dancedist.recipe.schema import Recipe
from dancedist.render.settling import settling_frames
from tests.unit.conftest import moving_poses
from tests.unit.dancedist.render.echo import echo


def test_settling_and_portrait_are_measured_once(tmp_path: Path, tiny_recipe: Recipe) -> None:
    bundle, poses = echo(tmp_path, tiny_recipe, 0.5), moving_poses(80)
    data = SimpleNamespace(split=SimpleNamespace(validation=range(10, 70)))
    target: Any = SimpleNamespace(poses=poses, data=data)
    updated = measure_settling(tmp_path / "ann", bundle, target)
    frames = updated.dancer.settling_frames
    assert frames == settling_frames(bundle, poses.slice(10, 70)) and frames is not None and frames > 1
    assert load_bundle(tmp_path / "ann").dancer.settling_frames == frames
    assert f"in {frames} frames" in (tmp_path / "ann" / "README.md").read_text()
    picture = cv2.imread(str(tmp_path / "ann" / PORTRAIT))
    assert picture.shape[0] == picture.shape[1] <= min(bundle.dancer.frame_size)
    before = (tmp_path / "ann" / PORTRAIT).stat().st_mtime_ns
    assert measure_settling(tmp_path / "ann", updated, target) is updated
    assert (tmp_path / "ann" / PORTRAIT).stat().st_mtime_ns == before
