import os
import subprocess
import sys
from fractions import Fraction

import av
import cv2
import numpy as np
import pytest

from dancedist.recipe.schema import VideoRecipe
from dancedist.video.decode import read_frames
from dancedist.video.encode import FilmWriter, write_film
from dancedist.video.probe import probe

LIMITS = VideoRecipe()
QUALITY = {"crf": LIMITS.crf, "x264_preset": LIMITS.x264_preset}


def scene(count=12, size=(320, 240)):
    """A slow pan over smooth colours with luminance texture and noise: about as hard to encode as real footage."""
    rng = np.random.default_rng(7)
    shape = (size[1], size[0] + count)
    colours = rng.integers(40, 215, (4, 6, 3)).astype(np.float32)
    wide = cv2.resize(colours, shape[::-1], interpolation=cv2.INTER_CUBIC)
    texture = cv2.GaussianBlur(rng.normal(0, 40, shape).astype(np.float32), (0, 0), 2)
    wide += (texture + rng.normal(0, 1, shape))[..., None]
    return [wide[:, i : i + size[0]].clip(0, 255).astype(np.uint8) for i in range(count)]


def reread(path):
    return np.stack([f for f in read_frames(probe(path, LIMITS)) if f is not None])


def test_decoded_frames_match_the_encoded_ones(tmp_path):
    frames = np.stack(scene()).astype(np.float64)
    write_film(tmp_path / "a.mp4", scene(), Fraction(25), **QUALITY)
    error = reread(tmp_path / "a.mp4") - frames
    assert 10 * np.log10(255**2 / (error**2).mean()) >= 40
    assert np.abs(error.mean((0, 1, 2))).max() < 0.6


@pytest.mark.parametrize("preset", ["medium", "ultrafast"])
def test_the_stream_is_tagged(tmp_path, preset):
    write_film(
        tmp_path / "a.mp4", scene(3), Fraction(25), crf=16, x264_preset=preset, metadata={"title": "T", "comment": "C"}
    )
    with av.open(str(tmp_path / "a.mp4")) as file:
        stream = file.streams.video[0]
        context = stream.codec_context
        assert (context.name, stream.profile, context.pix_fmt) == ("h264", "High", "yuv420p")
        tags = (context.colorspace, context.color_primaries, context.color_trc, context.color_range)
        assert tags == (1, 1, 1, 1)
        assert (file.metadata["title"], file.metadata["comment"]) == ("T", "C")
    data = (tmp_path / "a.mp4").read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")


@pytest.mark.parametrize("fps", [Fraction(25), Fraction(30000, 1001), Fraction(997, 40), Fraction(9205, 411)])
def test_the_frame_rate_is_exact_and_constant(tmp_path, fps):
    write_film(tmp_path / "a.mp4", scene(40), fps, **QUALITY)
    with av.open(str(tmp_path / "a.mp4")) as file:
        stream = file.streams.video[0]
        pts = sorted(p.pts for p in file.demux(stream) if p.pts is not None)
        assert [p * stream.time_base for p in pts] == [i / fps for i in range(40)]
        assert stream.duration * stream.time_base == 40 / fps
    assert probe(tmp_path / "a.mp4", LIMITS).fps == fps


def test_odd_sides_are_padded_with_their_edge(tmp_path):
    frames = scene(4, (101, 67))
    write_film(tmp_path / "a.mp4", frames, Fraction(25), **QUALITY)
    got = reread(tmp_path / "a.mp4").astype(float)
    assert got.shape == (4, 68, 102, 3)
    assert np.abs(got[:, :67, :101] - np.stack(frames)).mean() < 4
    assert np.abs(got[:, -1] - got[:, -2]).mean() < 4


def test_an_exception_while_writing_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.mp4"
    path.write_bytes(b"the old one")

    def frames():
        yield from scene(5)
        raise RuntimeError("out of frames")

    with pytest.raises(RuntimeError, match="out of frames"):
        write_film(path, frames(), Fraction(25), **QUALITY)
    assert [p.name for p in tmp_path.iterdir()] == ["a.mp4"]
    assert path.read_bytes() == b"the old one"


def test_an_exception_before_the_first_frame_leaves_no_file(tmp_path):
    with pytest.raises(KeyError), FilmWriter(tmp_path / "a.mp4", Fraction(25), **QUALITY):
        raise KeyError
    with pytest.raises(AssertionError, match="no frames"):
        write_film(tmp_path / "a.mp4", [], Fraction(25), **QUALITY)
    assert list(tmp_path.iterdir()) == []


def test_the_file_appears_only_when_it_is_complete(tmp_path):
    with FilmWriter(tmp_path / "new" / "a.mp4", Fraction(25), **QUALITY) as film:
        for frame in scene(3):
            film.write(frame)
        assert not (tmp_path / "new" / "a.mp4").exists()
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["a.mp4"]


def test_frames_of_another_size_and_unknown_metadata_fail_assertions(tmp_path):
    with pytest.raises(AssertionError, match="one size"):
        write_film(tmp_path / "a.mp4", [*scene(1), *scene(1, (64, 64))], Fraction(25), **QUALITY)
    with pytest.raises(AssertionError):
        FilmWriter(tmp_path / "a.mp4", Fraction(25), **QUALITY, metadata={"model": "x"})


@pytest.mark.parametrize("frames", [50, 41, 40, 1])
def test_groups_are_encoded_independently(tmp_path, frames):
    pictures = scene(frames)
    write_film(tmp_path / "whole.mp4", pictures, Fraction(25), **QUALITY, group_frames=20)
    whole = reread(tmp_path / "whole.mp4")
    assert len(whole) == probe(tmp_path / "whole.mp4", LIMITS).frames == frames
    for start in range(0, frames, 20):
        write_film(tmp_path / "part.mp4", pictures[start:], Fraction(25), **QUALITY, group_frames=20)
        assert np.array_equal(reread(tmp_path / "part.mp4"), whole[start:])
    with av.open(str(tmp_path / "whole.mp4")) as file:
        packets = [p for p in file.demux(video=0) if p.dts is not None]
    times = [p.dts for p in packets]
    assert times == sorted({*times})
    frame_ticks = 1 / (25 * packets[0].time_base)
    assert {round(p.pts / frame_ticks) for p in packets if p.is_keyframe} >= {*range(0, frames, 20)}


def test_the_bytes_do_not_depend_on_uninitialised_memory(tmp_path):
    program = (
        "import sys, pathlib, fractions; sys.path[:0] = sys.argv[2:]\n"
        "from tests.unit.dancedist.video.test_encode import QUALITY, scene, write_film\n"
        "write_film(pathlib.Path(sys.argv[1]), scene(20), fractions.Fraction(25), **QUALITY, group_frames=20)\n"
    )
    films = set()
    for filler in ("1", "85"):  # glibc fills allocated memory with this byte
        command = [sys.executable, "-c", program, str(tmp_path / "a.mp4"), *sys.path]
        subprocess.run(command, check=True, env={**os.environ, "MALLOC_PERTURB_": filler})
        films.add((tmp_path / "a.mp4").read_bytes())
    assert len(films) == 1
