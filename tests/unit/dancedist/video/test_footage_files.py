"""Every file of ../shared/footage has the properties in its INDEX.md."""

import hashlib
import time
from fractions import Fraction

import numpy as np
import pytest

from dancedist.errors import VideoTooLarge, VideoUnreadable
from dancedist.recipe.schema import VideoRecipe
from dancedist.video import probe as probing
from dancedist.video.decode import read_frames
from dancedist.video.encode import write_film
from dancedist.video.probe import probe

pytestmark = pytest.mark.footage
LIMITS = VideoRecipe()
EXPECTED = {
    "target_a_dancer_62s.mp4": (518, 496, Fraction(25), 1571, "aac", []),
    "target_e_edn_man_5s.mp4": (720, 1264, Fraction(9205, 411), 113, "aac", []),
    "source_b_rooftop_8s.mp4": (1280, 720, Fraction(25), 217, "aac", []),
    "source_c_edn_13s.mp4": (406, 720, Fraction(997, 40), 335, "aac", []),
    "source_f_akun_7s.mp4": (1920, 1080, Fraction(30), 219, "aac", []),
    "nasty/two_people_12s.mp4": (1280, 720, Fraction(25), 315, None, []),
    "nasty/leaves_frame_vp9_8s.mp4": (1768, 994, Fraction(30), 230, "aac", []),
    "nasty/portrait_60fps_vp9_2s.mp4": (1080, 1920, Fraction(60), 100, "aac", []),
    "nasty/no_person_animation_10s.mp4": (854, 480, Fraction(24), 240, None, []),
    "nasty/rotated90_metadata_4s.mp4": (720, 1280, Fraction(25), 103, "aac", ["frames-left-out"]),
    "nasty/vfr_odd_size_yuv444_6s.mp4": (381, 577, Fraction(2050, 147), 83, "aac", ["variable-rate"]),
    "nasty/hevc_10bit_no_audio_3s.mp4": (640, 360, Fraction(25), 75, None, []),
    "nasty/truncated_60pct.mp4": (406, 720, Fraction(997, 40), 203, "aac", ["cut-off"]),
    "nasty/bitflips.mp4": (406, 720, Fraction(997, 40), 335, "aac", []),
    "nasty/one_frame.mp4": (1280, 720, Fraction(25), 1, None, []),
}
RANGES = ["nasty/hevc_10bit_no_audio_3s.mp4", "source_c_edn_13s.mp4", "nasty/bitflips.mp4"]


def digests(frames):
    return [None if f is None else hashlib.md5(f.tobytes()).hexdigest() for f in frames]


@pytest.mark.parametrize("name", EXPECTED)
def test_probe_reports_the_expected_facts(footage, name):
    started_s = time.process_time()
    video = probe(footage / name, LIMITS)
    assert time.process_time() - started_s < 2
    facts = (video.width, video.height, video.fps, video.frames, video.audio_codec, [n.slug for n in video.notices])
    assert facts == EXPECTED[name]
    first = next(read_frames(video, 0, 1))
    assert first is not None
    assert first.shape == (video.height, video.width, 3)
    (last,) = read_frames(video, video.frames - 1)
    assert (last is None) == ("bitflips" in name)


@pytest.mark.parametrize("name", ["empty.mp4", "not_a_video.mp4", "audio_only.mp4"])
def test_files_without_video_are_refused(footage, name):
    with pytest.raises(VideoUnreadable, match=name):
        probe(footage / "nasty" / name, LIMITS)


def test_a_decompression_bomb_is_refused_before_decoding(footage, monkeypatch):
    monkeypatch.setattr(probing, "index_packets", lambda *_: pytest.fail("read on"))
    with pytest.raises(VideoTooLarge, match="16000x8000"):
        probe(footage / "nasty/bomb_16000x8000.mp4", LIMITS)


@pytest.mark.parametrize("name", RANGES)
def test_ranges_equal_slices_of_all_frames(footage, name):
    video = probe(footage / name, LIMITS)
    all_frames = digests(read_frames(video))
    assert len(all_frames) == video.frames
    rng = np.random.default_rng(3)
    for start in rng.integers(0, video.frames, 3).tolist():
        stop = min(video.frames, start + int(rng.integers(1, 25)))
        assert digests(read_frames(video, start, stop)) == all_frames[start:stop]


def test_frames_are_missing_from_the_first_damaged_one_on(footage):
    frames = digests(read_frames(probe(footage / "nasty/bitflips.mp4", LIMITS)))
    undamaged = digests(read_frames(probe(footage / "source_c_edn_13s.mp4", LIMITS), 0, 40))
    assert frames[:40] == undamaged
    assert frames.index(None) == 47


def test_footage_survives_encoding_with_its_sound(footage, tmp_path):
    source = probe(footage / "source_b_rooftop_8s.mp4", LIMITS)
    frames = [f for f in read_frames(source, 0, 10) if f is not None]
    write_film(tmp_path / "a.mp4", frames, source.fps, crf=LIMITS.crf, x264_preset="veryfast", audio_from=source.path)
    film = probe(tmp_path / "a.mp4", LIMITS)
    assert (film.frames, film.fps, film.audio_codec) == (10, source.fps, "aac")
    error = np.stack([f for f in read_frames(film) if f is not None]) - np.stack(frames).astype(np.float32)
    assert 10 * np.log10(255**2 / (error**2).mean()) >= 40
    assert np.abs(error.mean((0, 1, 2))).max() < 0.5
