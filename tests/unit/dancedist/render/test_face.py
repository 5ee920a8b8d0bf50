from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from dancedist.bundle.bundle import Bundle, load_bundle
from dancedist.pose.sequence import PoseSequence
from dancedist.render.chunk import render_chunk
from dancedist.render.compose import FrameComposer
from dancedist.render.film import as_danced_by
from dancedist.render.plan import Chunk
from dancedist.retarget.stats import RetargetStats
from dancedist.synthetic import SOURCE
from tests.unit.conftest import toy_recipe
from tests.unit.dancedist.bundle.test_bundle import make_bundle

FRAME = (192, 256)


def poses(frames: int = 6) -> PoseSequence:
    source = SOURCE.poses().slice(0, frames)
    scale = np.array(FRAME, np.float32) / np.array(source.size, np.float32)
    return replace(source, xy=(source.xy * scale.min()).astype(np.float32), size=FRAME)


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    stats = RetargetStats.of(poses()).to_dict()
    # Half of the frame's size, so that the face is refined at both sizes.
    make_bundle(tmp_path / "ann", toy_recipe("face"), frame_size=FRAME, picture_pixels=96 * 128, stats=stats)
    loaded = load_bundle(tmp_path / "ann")
    assert loaded.face is not None
    with torch.no_grad():
        for p in loaded.face.parameters():
            p.mul_(5)
    return loaded


def test_only_the_face_box_is_refined(bundle: Bundle) -> None:
    plain = replace(bundle, face=None)
    with_face, without = (next(iter(render_chunk(b, poses(), Chunk(0, 1)))) for b in (bundle, plain))
    assert with_face.face is not None and without.face is None
    assert np.array_equal(with_face.rgb, without.rgb)
    changed = (FrameComposer(bundle)(with_face) != FrameComposer(plain)(without)).any(axis=-1)
    x0, y0, x1, y1 = with_face.face.in_frame
    rows, columns = np.nonzero(changed)
    assert len(rows)
    assert x0 <= columns.min() and columns.max() <= x1
    assert y0 <= rows.min() and rows.max() <= y1


def test_the_next_frame_sees_the_refined_face(bundle: Bundle) -> None:
    with_face, without = (
        [picture.rgb for picture in render_chunk(b, poses(), Chunk(0, 2))] for b in (bundle, replace(bundle, face=None))
    )
    assert np.array_equal(with_face[0], without[0])
    assert not np.array_equal(with_face[1], without[1])


def test_frames_without_a_face_stay_as_they_are_and_are_counted(bundle: Bundle) -> None:
    visible = poses()
    nose = visible.topology.index["nose"]
    score = visible.score.copy()
    score[2:4, nose] = 0
    hidden = replace(visible, score=score)
    pictures = list(render_chunk(bundle, hidden, Chunk(0, 6)))
    assert [picture.face is None for picture in pictures] == [False, False, True, True, False, False]
    notices = {n.slug: n.message for n in as_danced_by(bundle, hidden).notices}
    assert notices["face-unseen"] == "2 of 6 frames show no face: it is not refined there"
    assert "face-unseen" not in {n.slug for n in as_danced_by(replace(bundle, face=None), hidden).notices}
