import hashlib
import itertools
import resource
from fractions import Fraction

import av
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dancedist.recipe.schema import VideoRecipe
from dancedist.video.decode import read_frame_at, read_frames
from dancedist.video.probe import probe

LIMITS = VideoRecipe()
FRAMES = 70
X265 = {"x265-params": "log-level=none:keyint=24:bframes=4"}
KINDS = {
    "h264 with B-frames": ("a.mp4", {"options": {"g": "20", "bf": "3"}}),
    "h264 in open groups": ("b.mp4", {"options": {"g": "20", "x264-params": "open-gop=1:bframes=3"}}),
    "h264 in a transport stream": ("c.ts", {"options": {"g": "20", "bf": "2"}}),
    "h264 in matroska": ("d.mkv", {"options": {"g": "20", "bf": "3"}}),
    "hevc of 10 bits": ("e.mp4", {"codec": "libx265", "pix_fmt": "yuv420p10le", "options": X265}),
    "vp9": ("f.webm", {"codec": "libvpx-vp9", "options": {"g": "16", "deadline": "realtime", "cpu-used": "8"}}),
    "vp8": ("g.webm", {"codec": "libvpx", "options": {"g": "16", "b": "300k"}}),
    "mpeg4 in avi": ("h.avi", {"codec": "mpeg4", "options": {"g": "12"}}),
}


def digests(frames):
    return [None if f is None else hashlib.md5(f.tobytes()).hexdigest() for f in frames]


@pytest.fixture(scope="module", params=list(KINDS))
def film(request, tmp_path_factory, clip_at):
    """A video of each kind, and the digests of its frames, decoded in one pass."""
    name, options = KINDS[request.param]
    video = probe(clip_at(tmp_path_factory.mktemp("films") / name, FRAMES, **options), LIMITS)
    return video, digests(read_frames(video))


def test_frames_are_in_order(film, number):
    video, _ = film
    assert video.frames == FRAMES
    assert [number(p) for p in read_frames(video)] == list(range(FRAMES))


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(a=st.integers(0, FRAMES), b=st.integers(0, FRAMES))
def test_a_range_equals_the_slice_of_all_frames(film, a, b):
    video, all_frames = film
    start, stop = min(a, b), max(a, b)
    assert digests(read_frames(video, start, stop)) == all_frames[start:stop]


def test_frames_by_index_equal_those_of_all_frames(film):
    video, all_frames = film
    indices = [0, 3, 3, 21, 22, 44, FRAMES - 1]
    assert digests(read_frame_at(video, indices)) == [all_frames[i] for i in indices]


def test_hidden_vp8_frames_are_not_counted(clip, tmp_path):
    plain = clip("plain.webm", 40, codec="libvpx", options={"b": "300k"})
    with av.open(str(plain)) as source, av.open(str(tmp_path / "hidden.webm"), "w") as out:
        stream = out.add_stream_from_template(source.streams.video[0], opaque=True)
        for packet in source.demux(video=0):
            if packet.size:
                for data, shift in ((bytes([bytes(packet)[0] & ~16]) + bytes(packet)[1:], -3), (bytes(packet), 0)):
                    copy = av.Packet(data)
                    copy.pts = copy.dts = packet.pts + 3 + shift
                    copy.time_base, copy.stream, copy.is_keyframe = packet.time_base, stream, packet.is_keyframe
                    out.mux(copy)
    video = probe(tmp_path / "hidden.webm", LIMITS)
    assert (video.frames, video.fps, video.notices) == (40, Fraction(25), ())
    assert None not in digests(read_frames(video))


def test_a_variable_rate_gives_the_nearest_frame_at_each_time(clip, number):
    gaps = np.random.default_rng(0).integers(1, 9, 59)
    pts = [0, *np.cumsum(gaps).tolist()]
    video = probe(clip("a.mp4", 60, pts=pts, time_base=Fraction(1, 100)), LIMITS)
    shown = [number(p) for p in read_frames(video)]
    expected = [int(np.argmin([abs(p / 100 - float(i / video.fps)) for p in pts])) for i in range(video.frames)]
    assert shown == expected
    assert digests(read_frames(video, 31, 47)) == digests(itertools.islice(read_frames(video), 31, 47))


@pytest.mark.parametrize("seed", range(4))
def test_damage_loses_frames_but_does_not_change_the_count(clip, seed):
    path = clip("a.mp4", 120, options={"g": "30", "bf": "3"}, container={"movflags": "+faststart"})
    undamaged = digests(read_frames(probe(path, LIMITS)))
    data = bytearray(path.read_bytes())
    rng = np.random.default_rng(seed)
    start = data.index(b"mdat") + 4 + (len(data) - data.index(b"mdat")) // 3
    for at in rng.integers(start, len(data), 30):
        data[at] ^= 1 << int(rng.integers(8))
    path.write_bytes(data)
    video = probe(path, LIMITS)
    got = digests(read_frames(video))
    assert len(got) == video.frames == 120
    assert got[:25] == undamaged[:25]
    assert None in got
    for start_frame in (7, 29, 44, 61, 95):
        assert digests(read_frames(video, start_frame, start_frame + 20)) == got[start_frame : start_frame + 20]


def test_the_group_after_a_damaged_one_is_intact(clip):
    path = clip("a.mp4", 90, options={"g": "30", "bf": "2", "sc_threshold": "0"})
    undamaged = digests(read_frames(probe(path, LIMITS)))
    with av.open(str(path)) as file:
        (at,) = [p.pos for p in file.demux(video=0) if p.pts is not None and p.pts * p.time_base == Fraction(40, 25)]
    data = bytearray(path.read_bytes())
    data[at : at + 4] = b"\xff" * 4  # the length of its first NAL unit
    path.write_bytes(data)
    got = digests(read_frames(probe(path, LIMITS)))
    assert got[:30] == undamaged[:30]
    assert got[60:] == undamaged[60:]
    assert None in got[30:60]


def test_memory_does_not_grow_with_the_length(clip):
    frames = [np.full((480, 640, 3), 60 + i, np.uint8) for i in range(8)] * 40
    video = probe(clip("a.mp4", frames, options={"preset": "ultrafast"}), LIMITS)
    for _ in read_frames(video, 0, 60):
        pass
    before_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in read_frames(video):
        pass
    grown_mb = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kb) / 1024
    assert grown_mb < 60, "260 frames of 0.9 MB each would be 240 MB"


def test_an_empty_range_has_no_frames(clip):
    video = probe(clip("a.mp4", 5), LIMITS)
    assert list(read_frames(video, 3, 3)) == []
    with pytest.raises(AssertionError):
        read_frames(video, 2, 6)
