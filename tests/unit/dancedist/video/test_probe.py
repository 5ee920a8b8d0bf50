import pickle
from fractions import Fraction

import av
import numpy as np
import pytest

from dancedist.errors import VideoTooLarge, VideoUnreadable
from dancedist.recipe.schema import VideoRecipe
from dancedist.video import probe as probing
from dancedist.video.decode import read_frames
from dancedist.video.probe import probe

LIMITS = VideoRecipe()


def test_facts_of_a_clip(clip):
    video = probe(clip("a.mp4", 50, fps=Fraction(30000, 1001)), LIMITS)
    assert (video.width, video.height, video.fps, video.frames) == (128, 96, Fraction(30000, 1001), 50)
    assert video.duration_s == pytest.approx(50 * 1001 / 30000)
    assert (video.video_codec, video.audio_codec, video.variable_rate, video.notices) == ("h264", None, False, ())


def test_a_video_can_be_pickled(clip):
    video = pickle.loads(pickle.dumps(probe(clip("a.mp4", 5), LIMITS)))
    assert len(list(read_frames(video))) == 5


@pytest.mark.parametrize("content", [b"", b"not a video at all " * 50, None])
def test_a_file_that_is_not_a_video_is_refused(tmp_path, content):
    path = tmp_path / "a.mp4"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(VideoUnreadable, match=r"a\.mp4"):
        probe(path, LIMITS)


def test_a_folder_is_refused(tmp_path):
    with pytest.raises(VideoUnreadable):
        probe(tmp_path, LIMITS)


def test_a_playlist_cannot_open_other_files(clip, tmp_path):
    film = clip("film.mp4", 5)
    (tmp_path / "list.m3u8").write_text(f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{film}\n#EXT-X-ENDLIST\n")
    (tmp_path / "list.txt").write_text(f"ffconcat version 1.0\nfile {film.name}\n")
    for name in ("list.m3u8", "list.txt"):
        with pytest.raises(VideoUnreadable):
            probe(tmp_path / name, LIMITS)


def test_a_sound_file_is_refused(tmp_path):
    with av.open(str(tmp_path / "a.m4a"), "w") as file:
        stream = file.add_stream("aac", rate=48000)
        frame = av.AudioFrame.from_ndarray(np.zeros((2, 4096), np.float32), "fltp", "stereo")
        frame.sample_rate = 48000
        file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    with pytest.raises(VideoUnreadable, match="got audio"):
        probe(tmp_path / "a.m4a", LIMITS)


@pytest.mark.parametrize(
    "limits",
    [VideoRecipe(max_frame_pixels=128 * 96 - 1), VideoRecipe(max_frames=49), VideoRecipe(max_duration_s=1.9)],
)
def test_nothing_is_decoded_beyond_a_limit(clip, monkeypatch, limits):
    monkeypatch.setattr(probing, "_first_frame", lambda *_: pytest.fail("decoded"))
    with pytest.raises(VideoTooLarge, match="at most"):
        probe(clip("a.mp4", 50), limits)


def test_a_video_at_the_limits_is_accepted(clip):
    limits = VideoRecipe(max_frame_pixels=128 * 96, max_frames=50, max_duration_s=2)
    assert len([f for f in read_frames(probe(clip("a.mp4", 50), limits)) if f is not None]) == 50


def test_frames_stretched_beyond_the_limit_are_refused(clip):
    def wide(stream):
        stream.codec_context.sample_aspect_ratio = Fraction(20)

    with pytest.raises(VideoTooLarge, match="2560x96"):
        probe(clip("a.mp4", 3, setup=wide), VideoRecipe(max_frame_pixels=100_000))


def test_a_truncated_file_has_a_notice_at_its_first_missing_frame(clip, number):
    path = clip("a.mp4", 100, container={"movflags": "+faststart"}, options={"g": "20", "bf": "3"})
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 6 // 10])
    video = probe(path, LIMITS)
    (notice,) = video.notices
    assert (notice.slug, notice.frame) == ("cut-off", video.frames)
    assert "100 frames" in notice.message
    assert 40 < video.frames < 80
    assert [number(f) for f in read_frames(video) if f is not None] == list(range(video.frames))


def test_a_truncated_matroska_file_has_a_notice(clip):
    path = clip("a.mkv", 100, options={"g": "20"})
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert [n.slug for n in probe(path, LIMITS).notices] == ["cut-off"]


def test_a_variable_rate_has_a_notice(clip):
    pts = np.cumsum([1 + i % 3 for i in range(60)]).tolist()
    video = probe(clip("a.mp4", 60, pts=pts, time_base=Fraction(1, 50)), LIMITS)
    assert video.variable_rate
    assert video.frames == 60
    assert [n.slug for n in video.notices] == ["variable-rate"]


def test_a_video_without_decodable_frames_is_refused(clip):
    path = clip("a.mp4", 10, container={"movflags": "+faststart"})
    data = bytearray(path.read_bytes())
    start = data.index(b"mdat") + 4
    data[start:] = bytes(len(data) - start)
    path.write_bytes(data)
    with pytest.raises(VideoUnreadable, match="cannot be decoded"):
        probe(path, LIMITS)
