"""Flashes and clicks that coincide in the source must coincide in the film."""

from fractions import Fraction
from itertools import pairwise

import av
import numpy as np
import pytest

from dancedist.recipe.schema import VideoRecipe
from dancedist.video.decode import read_frames
from dancedist.video.encode import write_film
from dancedist.video.probe import probe

FPS = Fraction(25)
RATE_HZ = 48000
FRAMES = 75
FLASHES = (20, 45, 65)
LIMITS = VideoRecipe()


def clapper(path, audio_codec, video_start_s=0.0, sound_start_s=0.0, gap_s=None):
    """Write three seconds with a white frame and a burst of sound at each of `FLASHES`.

    Video and sound may start late, and the sound may have a gap.
    """
    ticks = Fraction(1, 1000)
    at = np.arange(int((FRAMES / FPS) * RATE_HZ)) / RATE_HZ
    on = np.any([(at >= f / 25) & (at < f / 25 + 0.04) for f in FLASHES], axis=0)
    wave = (0.7 * on * np.sin(2 * np.pi * 1000 * at)).astype(np.float32)
    with av.open(str(path), "w") as file:
        video = file.add_stream("libx264" if path.suffix != ".webm" else "libvpx-vp9", rate=FPS)
        video.width, video.height, video.pix_fmt = 64, 64, "yuv420p"
        video.codec_context.time_base = ticks
        # FFmpeg's own vorbis encoder is marked experimental.
        audio = file.add_stream(audio_codec, rate=RATE_HZ, layout="stereo", options={"strict": "experimental"})
        for i in range(FRAMES):
            picture = np.full((64, 64, 3), 250 if i in FLASHES else 10, np.uint8)
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = round(1000 * (i / 25)), ticks
            if frame.pts >= video_start_s * 1000:
                file.mux(video.encode(frame))
        file.mux(video.encode(None))
        for start in range(0, len(wave) - 1023, 1024):
            seconds = start / RATE_HZ
            if seconds < sound_start_s or (gap_s and gap_s[0] <= seconds < gap_s[1]):
                continue
            frame = av.AudioFrame.from_ndarray(np.stack([wave[start : start + 1024]] * 2), "fltp", "stereo")
            frame.sample_rate, frame.pts, frame.time_base = RATE_HZ, start, Fraction(1, RATE_HZ)
            file.mux(audio.encode(frame))
        file.mux(audio.encode(None))
    return path


def bursts_s(path):
    """Times, in seconds of the file's clock, at which sound begins after silence."""
    with av.open(str(path)) as file:
        stream = file.streams.audio[0]
        plain = av.AudioResampler("fltp", "stereo", stream.rate)
        frames = [f for packet in file.demux(stream) for sound in packet.decode() for f in plain.resample(sound)]
        pieces = [(float(f.pts * f.time_base), f.to_ndarray(), f.sample_rate) for f in frames]
    times, last = [], -1.0
    for start, samples, rate in pieces:
        for i in np.flatnonzero(np.abs(samples[0]) > 0.2):
            now = start + i / rate
            if now - last > 0.3:
                times.append(now)
            last = now
    return times


def flashes(path):
    return [i for i, f in enumerate(read_frames(probe(path, LIMITS))) if f is not None and f.mean() > 128]


def write_with_sound(source, out, frames=None):
    video = probe(source, LIMITS)
    pictures = list(read_frames(video))[:frames]
    return write_film(out, pictures, video.fps, crf=16, x264_preset="veryfast", audio_from=source)


@pytest.mark.parametrize(
    ("name", "codec", "copied"),
    [
        ("a.mp4", "aac", True),
        ("a.ts", "aac", True),
        ("a.mkv", "libmp3lame", True),
        ("a.webm", "libopus", True),
        ("a.mkv", "flac", True),
        ("a.mov", "pcm_s16le", False),
        ("a.mkv", "vorbis", False),
    ],
)
@pytest.mark.parametrize(("video_start_s", "sound_start_s"), [(0, 0), (0.4, 0), (0, 0.5)])
def test_sound_is_in_sync_within_a_frame(tmp_path, name, codec, copied, video_start_s, sound_start_s):
    source = clapper(tmp_path / name, codec, video_start_s, sound_start_s)
    notices = write_with_sound(source, tmp_path / "film.mp4")
    assert [n.slug for n in notices] == ([] if copied else ["sound-encoded-again"])
    flash_frames, bursts = flashes(tmp_path / "film.mp4"), bursts_s(tmp_path / "film.mp4")
    assert len(flash_frames) == len(bursts) == 3
    assert np.abs(np.array(flash_frames) / 25 - bursts).max() < 0.04
    assert np.abs(np.diff(bursts) - np.diff(FLASHES) / 25).max() < 0.01


def test_packets_of_supported_codecs_are_copied(tmp_path):
    source = clapper(tmp_path / "a.mp4", "aac")
    write_with_sound(source, tmp_path / "film.mp4")

    def sound(path):
        with av.open(str(path)) as file:
            return [(bytes(p), p.pts * p.time_base) for p in file.demux(audio=0) if p.size]

    before, after = sound(source), sound(tmp_path / "film.mp4")
    assert len(after) > 100
    assert after == before[: len(after)]


def test_a_gap_in_the_sound_is_filled_with_silence(tmp_path):
    source = clapper(tmp_path / "a.mkv", "pcm_s16le", sound_start_s=0.3, gap_s=(1.0, 1.6))
    write_with_sound(source, tmp_path / "film.mp4")
    assert np.abs(np.array(bursts_s(tmp_path / "film.mp4")) - np.array(FLASHES) / 25).max() < 0.02
    with av.open(str(tmp_path / "film.mp4")) as file:
        starts = [p.pts for p in file.demux(audio=0) if p.size]
    assert set(np.diff(starts)) == {1024}, "players handle gaps differently"


@pytest.mark.parametrize(("name", "codec"), [("a.mp4", "aac"), ("a.mov", "pcm_s16le")])
def test_sound_ends_with_the_film(tmp_path, name, codec):
    source = clapper(tmp_path / name, codec)
    write_with_sound(source, tmp_path / "film.mp4", frames=30)
    with av.open(str(tmp_path / "film.mp4")) as file:
        sound = file.streams.audio[0]
        assert float(sound.duration * sound.time_base) == pytest.approx(30 / 25, abs=1 / 25)
    assert len(bursts_s(tmp_path / "film.mp4")) == 1


def test_sound_may_be_shorter_than_the_film_or_absent(tmp_path, clip):
    source = clapper(tmp_path / "a.mp4", "aac")
    frames = [np.full((64, 64, 3), 90, np.uint8)] * 120
    write_film(tmp_path / "long.mp4", frames, FPS, crf=16, x264_preset="veryfast", audio_from=source)
    assert probe(tmp_path / "long.mp4", LIMITS).frames == 120
    write_film(tmp_path / "mute.mp4", frames, FPS, crf=16, x264_preset="veryfast", audio_from=clip("silent.mp4", 5))
    assert probe(tmp_path / "mute.mp4", LIMITS).audio_codec is None


def test_sound_and_video_are_interleaved(tmp_path):
    source = clapper(tmp_path / "a.mp4", "aac")
    write_with_sound(source, tmp_path / "film.mp4")
    with av.open(str(tmp_path / "film.mp4")) as file:
        positions = [(p.pos, p.stream.type) for p in file.demux() if p.size]
    kinds = [kind for _, kind in sorted(positions)]
    assert sum(a != b for a, b in pairwise(kinds)) > 4
