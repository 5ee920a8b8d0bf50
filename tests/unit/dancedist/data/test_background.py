from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np

from dancedist.data.background import body_mask, empty_stage, filled_in, film_stage
from dancedist.recipe import Recipe
from dancedist.synthetic import TARGET_TEST
from dancedist.synthetic.backdrop import paint
from dancedist.video.encode import write_film
from dancedist.video.probe import probe


def test_what_is_clear_now_and_then_is_seen() -> None:
    rng = np.random.default_rng(0)
    stage = rng.integers(0, 255, (40, 50, 3), np.uint8)
    frames, hidden = np.stack([stage] * 9), np.zeros((9, 40, 50), np.bool_)
    for i, (frame, body) in enumerate(zip(frames, hidden, strict=True)):
        body[:, 5 * i : 5 * i + 8] = True
        frame[body] = 255
    assert np.array_equal(empty_stage(frames, hidden), stage)


def test_what_never_is_clear_is_painted_in() -> None:
    frames, hidden = np.full((5, 40, 50, 3), 60, np.uint8), np.zeros((5, 40, 50), np.bool_)
    hidden[:, 10:20, 10:20] = True
    frames[hidden] = 250
    assert np.abs(empty_stage(frames, hidden).astype(int) - 60).max() <= 6


def test_hair_that_reaches_out_now_and_then_is_no_stage() -> None:
    frames, hidden = np.full((100, 40, 50, 3), 60, np.uint8), np.ones((100, 40, 50), np.bool_)
    hidden[:, :, :25] = False
    hidden[:2, 20, 25:] = False
    frames[:2, 20, 25:] = 250
    frames[hidden] = 250
    assert np.abs(empty_stage(frames, hidden).astype(int) - 60).max() <= 2


def test_a_hole_is_filled_smoothly_from_all_around() -> None:
    ramp = np.broadcast_to(np.linspace(20, 220, 160)[None, :, None], (120, 160, 3)).round().astype(np.uint8)
    hole = np.zeros(ramp.shape[:2], np.bool_)
    hole[30:110, 60:110] = True
    filled = filled_in(np.where(hole[..., None], np.uint8(255), ramp), hole)
    assert np.array_equal(filled[~hole], ramp[~hole])
    assert np.abs(filled.astype(int) - ramp)[hole].max() < 15
    assert np.abs(np.diff(filled[70].astype(int), axis=0)).max() < 6


def test_a_dancer_who_fills_the_frame_leaves_the_mean() -> None:
    frames = np.full((4, 8, 8, 3), 9, np.uint8)
    assert (empty_stage(frames, np.ones((4, 8, 8), np.bool_)) == 9).all()


def test_the_drawn_dancer_vanishes_from_the_film(tmp_path: Path) -> None:
    poses = TARGET_TEST.poses()
    chosen = np.arange(0, len(poses), 15)
    from dancedist.synthetic import film

    some = type(poses)(poses.xy[chosen], poses.score[chosen], poses.topology, Fraction(25), poses.size)
    shown = film(TARGET_TEST.performer, TARGET_TEST.backdrop, some)
    write_film(tmp_path / "v.mp4", shown, Fraction(25), crf=12, speed="ultrafast")
    stage = film_stage(probe(tmp_path / "v.mp4", Recipe().video), some, np.arange(len(some)))
    empty = paint(TARGET_TEST.backdrop, poses.size)
    empty = (empty * 255 if empty.max() <= 1.5 else empty).astype(float)
    # Where the dancer was in the first frame there is brick again.
    place = body_mask(some, 0)
    off = np.abs(stage.astype(float) - empty)[place].mean()
    assert off < 12
