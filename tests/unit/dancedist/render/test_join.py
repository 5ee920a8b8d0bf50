from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from dancedist.errors import FileInvalid
from dancedist.recipe.schema import VideoRecipe
from dancedist.render.join import join_chunks
from dancedist.video.decode import read_frames
from dancedist.video.encode import write_film
from dancedist.video.probe import probe

SIZE = 64


def frames(count: int) -> np.ndarray:
    """A moving bar, so that x264 writes frames of every type."""
    stack = np.full((count, SIZE, SIZE, 3), 90, np.uint8)
    for t, frame in enumerate(stack):
        frame[:, t % SIZE] = 250
    return stack


def chunk(path: Path, stack: np.ndarray, fps: Fraction = Fraction(25), crf: int = 18) -> tuple[Path, int]:
    write_film(path, stack, fps, crf=crf, x264_preset="veryfast")
    return path, len(stack)


def decoded(path: Path) -> np.ndarray:
    return np.stack([f for f in read_frames(probe(path, VideoRecipe())) if f is not None])


def sound_file(path: Path, seconds: float) -> Path:
    with av.open(str(path), "w") as film:
        out = film.add_stream("aac", rate=48000)
        sound = np.sin(np.arange(int(48000 * seconds)) / 20, dtype=np.float32)[None]
        frame = av.AudioFrame.from_ndarray(sound, format="fltp", layout="mono")
        frame.rate = 48000
        film.mux(out.encode(frame))
        film.mux(out.encode(None))
    return path


@pytest.mark.parametrize("fps", [Fraction(25), Fraction(30000, 1001), Fraction(2997, 125)])
@pytest.mark.parametrize("lengths", [(30,), (30, 40, 25), (1, 30, 2, 1, 7)])
def test_the_film_has_all_frames_in_order(tmp_path: Path, lengths: tuple[int, ...], fps: Fraction) -> None:
    stacks = np.split(frames(sum(lengths)), np.cumsum(lengths)[:-1])
    chunks = [chunk(tmp_path / f"{i}.mp4", part, fps) for i, part in enumerate(stacks)]
    assert join_chunks(tmp_path / "film.mp4", chunks, fps) == ()
    film = probe(tmp_path / "film.mp4", VideoRecipe())
    assert (film.frames, film.fps) == (sum(lengths), fps)
    alone = np.concatenate([decoded(path) for path, _ in chunks])
    assert np.array_equal(decoded(tmp_path / "film.mp4"), alone)
    with av.open(str(tmp_path / "film.mp4")) as container:
        packets = [p for p in container.demux(video=0) if p.dts is not None]
    times = [p.dts for p in packets]
    assert times == sorted({*times})
    one = 1 / (fps * packets[0].time_base)
    keys = {round(p.pts / one) for p in packets if p.is_keyframe and p.pts is not None}
    assert keys >= {0, *np.cumsum(lengths)[:-1].tolist()}


def test_the_sound_is_added_once_and_ends_with_the_film(tmp_path: Path) -> None:
    chunks = [chunk(tmp_path / f"{i}.mp4", frames(25)) for i in range(3)]
    source = sound_file(tmp_path / "source.mp4", 5)
    join_chunks(tmp_path / "film.mp4", chunks, Fraction(25), source, {"comment": "drawn"})
    with av.open(str(tmp_path / "film.mp4")) as container:
        sound = container.streams.audio[0]
        assert sound.duration is not None and sound.time_base is not None
        assert float(sound.duration * sound.time_base) == pytest.approx(3, abs=0.05)
        assert container.metadata["comment"] == "drawn"
        packets = [bytes(p) for p in container.demux(sound) if p.size]
    with av.open(str(source)) as container:
        assert packets == [bytes(p) for p in container.demux(audio=0) if p.size][: len(packets)]


def test_a_chunk_of_another_film_is_refused(tmp_path: Path) -> None:
    first, other = chunk(tmp_path / "0.mp4", frames(8)), chunk(tmp_path / "1.mp4", frames(8), crf=18)
    large = np.repeat(frames(8), 2, axis=1)
    with pytest.raises(FileInvalid, match="another film"):
        join_chunks(tmp_path / "film.mp4", [first, chunk(tmp_path / "2.mp4", large)], Fraction(25))
    with pytest.raises(FileInvalid, match="is not a complete chunk"):
        join_chunks(tmp_path / "film.mp4", [first, (other[0], 9)], Fraction(25))
    assert not (tmp_path / "film.mp4").exists()
