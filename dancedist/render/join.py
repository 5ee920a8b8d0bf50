"""Encoded chunks -> one film: their packets as they are, the sound once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fractions import Fraction
from hashlib import sha256
from pathlib import Path

import av
from av.packet import Packet
from av.video.stream import VideoStream

from dancedist.errors import FileInvalid, Notice
from dancedist.files import published
from dancedist.video.audio import Soundtrack
from dancedist.video.encode import METADATA_KEYS
from dancedist.video.packets import open_file

_OPTIONS = {"movflags": "+faststart"}


def join_chunks(
    out: Path,
    chunks: Sequence[tuple[Path, int]],
    fps: Fraction,
    audio_from: Path | None = None,
    metadata: dict[str, str] | None = None,
) -> tuple[Notice, ...]:
    """Write the film of the chunks (file, frames), in order; nothing is encoded again; tells what became of the sound.

    All were written by `video.encode` with one size, rate, `crf` and speed: each begins with a keyframe that nothing
    before it is needed for. Raises FileInvalid for a chunk that is not what it should be.
    """
    assert set(metadata or {}) <= METADATA_KEYS, metadata
    delay = max(_checked(path, frames, chunks[0][0]) for path, frames in chunks)
    with published(out) as partial, av.open(str(partial.absolute()), "w", format="mp4", options=_OPTIONS) as film:
        film.metadata.update(metadata or {})
        with open_file(chunks[0][0]) as container:
            stream = film.add_stream_from_template(container.streams.video[0])
        sound = None if audio_from is None else Soundtrack(film, audio_from)
        done = 0
        try:
            for path, frames in chunks:
                for packet in _moved(path, stream, done, delay, fps):
                    film.mux(packet)
                done += frames
                if sound is not None:
                    sound.advance(done / fps)
        finally:
            if sound is not None:
                sound.close()
    return () if sound is None else sound.notices


def _checked(path: Path, frames: int, first: Path) -> int:
    """By how many frames its packets are to be decoded before they are shown."""
    with open_file(path) as container, open_file(first) as other:
        video = container.streams.video[0]
        got, expected = (_parameters(c.streams.video[0]) for c in (container, other))
        if got != expected:
            raise FileInvalid("is a chunk of another film", file=path, expected=str(expected), got=str(got))
        times = [(p.pts, p.dts) for p in container.demux(video) if p.pts is not None and p.dts is not None]
    if len(times) != frames:
        raise FileInvalid("is no whole chunk", file=path, expected=f"{frames} frames", got=str(len(times)))
    order = {pts: i for i, pts in enumerate(sorted(pts for pts, _ in times))}
    return max(i - order[pts] for i, (pts, _) in enumerate(times))


def _parameters(stream: VideoStream) -> tuple[int, int, str]:
    headers = stream.codec_context.extradata or b""
    return stream.width, stream.height, sha256(headers).hexdigest()[:16]


def _moved(path: Path, out: VideoStream, done: int, delay: int, fps: Fraction) -> Iterator[Packet[VideoStream]]:
    """A chunk's packets as they lie in the film, where `done` frames come before it; times in frames."""
    with open_file(path) as container:
        given = (p for p in container.demux(container.streams.video[0]) if p.pts is not None)
        for i, packet in enumerate(given):
            assert packet.pts is not None
            packet.pts = done + round(packet.pts * packet.time_base * fps)
            packet.dts, packet.duration, packet.time_base = done + i - delay, 1, 1 / fps
            packet.stream = out
            yield packet
