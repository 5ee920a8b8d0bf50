from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from dancedist.bundle.bundle import load_bundle
from dancedist.errors import FileInvalid
from dancedist.pose.sequence import PoseSequence
from dancedist.pose.topology import COCO17, convert
from dancedist.recipe.schema import Recipe
from dancedist.render.film import as_danced_by, render_film
from dancedist.synthetic import TARGET_TEST
from dancedist.video.encode import write_film
from dancedist.video.probe import probe
from tests.unit.dancedist.bundle.test_bundle import make_bundle


def dance(frames: int = 12) -> PoseSequence:
    return TARGET_TEST.poses().slice(0, frames)


def stats_of(poses: PoseSequence) -> dict[str, object]:
    from dancedist.retarget.stats import RetargetStats

    return RetargetStats.of(poses).to_dict()


def test_film_has_the_targets_size_and_the_sources_length(tmp_path: Path, tiny_recipe: Recipe) -> None:
    poses = dance()
    make_bundle(tmp_path / "ann", tiny_recipe, frame_size=poses.size, stats=stats_of(poses))
    bundle = load_bundle(tmp_path / "ann")
    width, height = poses.size
    blank = (np.full((height, width, 3), 90, np.uint8) for _ in range(12))
    write_film(tmp_path / "s.mp4", blank, Fraction(25), crf=20, x264_preset="ultrafast")
    source, advances = probe(tmp_path / "s.mp4", Recipe().video), []
    film = render_film(bundle, source, poses, tmp_path / "out.mp4", Recipe().video, {"comment": "x"}, advances.append)
    written = probe(film.path, Recipe().video)
    assert (written.width, written.height, written.frames, written.fps) == (width, height, 12, Fraction(25))
    assert (film.frames, film.size, sum(advances)) == (12, poses.size, 12)
    assert film.notices == ()


def test_notices_say_what_does_not_match(tmp_path: Path, tiny_recipe: Recipe) -> None:
    poses = dance()
    make_bundle(tmp_path / "ann", tiny_recipe, frame_size=poses.size, stats=stats_of(poses))
    xy, score = poses.xy.copy(), poses.score.copy()
    xy[4:6], score[4:6] = np.nan, 0
    faster = replace(poses, xy=xy, score=score, fps=Fraction(50))
    notices = as_danced_by(load_bundle(tmp_path / "ann"), faster).notices
    assert {"rate-differs", "pose-held"} <= {n.slug for n in notices}


def test_poses_of_another_layout_are_refused(tmp_path: Path, tiny_recipe: Recipe) -> None:
    poses = dance()
    make_bundle(tmp_path / "ann", tiny_recipe, frame_size=poses.size, stats=stats_of(poses))
    xy, score = convert(poses.xy, poses.score, poses.topology, COCO17)
    with pytest.raises(FileInvalid, match="layout"):
        as_danced_by(load_bundle(tmp_path / "ann"), replace(poses, xy=xy, score=score, topology=COCO17))
