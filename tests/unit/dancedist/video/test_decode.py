import hashlib
import itertools
import resource
from fractions import Fraction

import av
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dancedist.recipe import VideoRecipe
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


def prints(pictures):
    return [None if p is None else hashlib.md5(p.tobytes()).hexdigest() for p in pictures]


@pytest.fixture(scope="module", params=list(KINDS))
def film(request, tmp_path_factory, clip_at):
    """A video of each kind and the prints of its frames, decoded in one go."""
    name, options = KINDS[request.param]
    video = probe(clip_at(tmp_path_factory.mktemp("films") / name, FRAMES, **options), LIMITS)
    return video, prints(read_frames(video))


def test_every_frame_is_in_its_place(film, number):
    video, _ = film
    assert video.frames == FRAMES
    assert [number(p) for p in read_frames(video)] == list(range(FRAMES))


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(a=st.integers(0, FRAMES), b=st.integers(0, FRAMES))
def test_a_range_is_the_same_as_within_the_whole(film, a, b):
    video, whole = film
    start, stop = min(a, b), max(a, b)
    assert prints(read_frames(video, start, stop)) == whole[start:stop]


def test_named_frames_are_the_same_as_within_the_whole(film):
    video, whole = film
    names = [0, 3, 3, 21, 22, 44, FRAMES - 1]
    assert prints(read_frame_at(video, names)) == [whole[i] for i in names]


def test_frames_that_vp8_never_shows_are_not_counted(clip, tmp_path):
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
    assert None not in prints(read_frames(video))


def test_a_varying_rate_shows_what_was_on_at_each_time(clip, number):
    gaps = np.random.default_rng(0).integers(1, 9, 59)
    pts = [0, *np.cumsum(gaps).tolist()]
    video = probe(clip("a.mp4", 60, pts=pts, time_base=Fraction(1, 100)), LIMITS)
    shown = [number(p) for p in read_frames(video)]
    expected = [int(np.argmin([abs(p / 100 - float(i / video.fps)) for p in pts])) for i in range(video.frames)]
    assert shown == expected
    assert prints(read_frames(video, 31, 47)) == prints(itertools.islice(read_frames(video), 31, 47))


@pytest.mark.parametrize("seed", range(4))
def test_damage_costs_frames_but_never_the_count(clip, seed):
    path = clip("a.mp4", 120, options={"g": "30", "bf": "3"}, container={"movflags": "+faststart"})
    whole = prints(read_frames(probe(path, LIMITS)))
    data = bytearray(path.read_bytes())
    rng = np.random.default_rng(seed)
    start = data.index(b"mdat") + 4 + (len(data) - data.index(b"mdat")) // 3
    for at in rng.integers(start, len(data), 30):
        data[at] ^= 1 << int(rng.integers(8))
    path.write_bytes(data)
    video = probe(path, LIMITS)
    got = prints(read_frames(video))
    assert len(got) == video.frames == 120
    assert got[:25] == whole[:25]
    assert None in got
    for start_frame in (7, 29, 44, 61, 95):
        assert prints(read_frames(video, start_frame, start_frame + 20)) == got[start_frame : start_frame + 20]


def test_after_a_spoilt_group_the_next_is_sound(clip):
    path = clip("a.mp4", 90, options={"g": "30", "bf": "2", "sc_threshold": "0"})
    whole = prints(read_frames(probe(path, LIMITS)))
    with av.open(str(path)) as file:
        (at,) = [p.pos for p in file.demux(video=0) if p.pts is not None and p.pts * p.time_base == Fraction(40, 25)]
    data = bytearray(path.read_bytes())
    data[at : at + 4] = b"\xff" * 4  # the length of its first NAL unit
    path.write_bytes(data)
    got = prints(read_frames(probe(path, LIMITS)))
    assert got[:30] == whole[:30]
    assert got[60:] == whole[60:]
    assert None in got[30:60]


def test_memory_does_not_grow_with_length(clip):
    frames = [np.full((480, 640, 3), 60 + i, np.uint8) for i in range(8)] * 40
    video = probe(clip("a.mp4", frames, options={"preset": "ultrafast"}), LIMITS)
    for _ in read_frames(video, 0, 60):
        pass
    before_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in read_frames(video):
        pass
    grown_mb = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kb) / 1024
    assert grown_mb < 60, "260 frames of 0.9 MB each would be 240 MB"


def test_no_frames_asked_for_are_none(clip):
    video = probe(clip("a.mp4", 5), LIMITS)
    assert list(read_frames(video, 3, 3)) == []
    with pytest.raises(AssertionError):
        read_frames(video, 2, 6)
