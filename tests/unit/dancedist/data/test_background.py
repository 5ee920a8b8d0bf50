from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np

from dancedist.data.background import body_mask, estimate_background, fill_hole, video_background
from dancedist.recipe.schema import Recipe
from dancedist.synthetic import TARGET_TEST
from dancedist.synthetic.backdrop import paint
from dancedist.video.encode import write_film
from dancedist.video.probe import probe


def test_pixels_that_are_visible_in_some_frames_are_recovered() -> None:
    rng = np.random.default_rng(0)
    background = rng.integers(0, 255, (40, 50, 3), np.uint8)
    frames, hidden = np.stack([background] * 9), np.zeros((9, 40, 50), np.bool_)
    for i, (frame, body) in enumerate(zip(frames, hidden, strict=True)):
        body[:, 5 * i : 5 * i + 8] = True
        frame[body] = 255
    assert np.array_equal(estimate_background(frames, hidden), background)


def test_pixels_that_are_never_visible_are_filled() -> None:
    frames, hidden = np.full((5, 40, 50, 3), 60, np.uint8), np.zeros((5, 40, 50), np.bool_)
    hidden[:, 10:20, 10:20] = True
    frames[hidden] = 250
    assert np.abs(estimate_background(frames, hidden).astype(int) - 60).max() <= 6


def test_hair_outside_the_mask_in_a_few_frames_is_not_background() -> None:
    frames, hidden = np.full((100, 40, 50, 3), 60, np.uint8), np.ones((100, 40, 50), np.bool_)
    hidden[:, :, :25] = False
    hidden[:2, 20, 25:] = False
    frames[:2, 20, 25:] = 250
    frames[hidden] = 250
    assert np.abs(estimate_background(frames, hidden).astype(int) - 60).max() <= 2


def test_a_hole_is_filled_smoothly_from_its_surroundings() -> None:
    ramp = np.broadcast_to(np.linspace(20, 220, 160)[None, :, None], (120, 160, 3)).round().astype(np.uint8)
    hole = np.zeros(ramp.shape[:2], np.bool_)
    hole[30:110, 60:110] = True
    filled = fill_hole(np.where(hole[..., None], np.uint8(255), ramp), hole)
    assert np.array_equal(filled[~hole], ramp[~hole])
    assert np.abs(filled.astype(int) - ramp)[hole].max() < 15
    assert np.abs(np.diff(filled[70].astype(int), axis=0)).max() < 6


def test_a_dancer_who_fills_the_frame_leaves_the_mean() -> None:
    frames = np.full((4, 8, 8, 3), 9, np.uint8)
    assert (estimate_background(frames, np.ones((4, 8, 8), np.bool_)) == 9).all()


def test_the_synthetic_dancer_is_removed_from_the_video(tmp_path: Path) -> None:
    poses = TARGET_TEST.poses()
    chosen = np.arange(0, len(poses), 15)
    from dancedist.synthetic import film

    sample = type(poses)(poses.xy[chosen], poses.score[chosen], poses.topology, Fraction(25), poses.size)
    frames = film(TARGET_TEST.performer, TARGET_TEST.backdrop, sample)
    write_film(tmp_path / "v.mp4", frames, Fraction(25), crf=12, x264_preset="ultrafast")
    background = video_background(probe(tmp_path / "v.mp4", Recipe().video), sample, np.arange(len(sample)))
    empty = paint(TARGET_TEST.backdrop, poses.size)
    empty = (empty * 255 if empty.max() <= 1.5 else empty).astype(float)
    # Where the dancer was in the first frame the wall is visible.
    mask = body_mask(sample, 0)
    error = np.abs(background.astype(float) - empty)[mask].mean()
    assert error < 12
