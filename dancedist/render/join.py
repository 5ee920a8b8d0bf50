"""Join encoded chunks into one film: their packets are copied, the sound is added once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fractions import Fraction
from hashlib import sha256
from pathlib import Path

import av
from av.packet import Packet
from av.video.stream import VideoStream

from dancedist.errors import FileInvalid, Notice
from dancedist.files import atomic_write
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
    """Write the film of the chunks (file, frames), in order, without encoding again; returns notices on the sound.

    `video.encode` wrote all chunks with one size, rate, `crf` and `x264_preset`: each begins with a keyframe and
    depends on nothing before it. Raises FileInvalid for a chunk with other parameters or another number of frames.
    """
    assert set(metadata or {}) <= METADATA_KEYS, metadata
    delay = max(_decoding_delay(path, frames, chunks[0][0]) for path, frames in chunks)
    with atomic_write(out) as partial, av.open(str(partial.absolute()), "w", format="mp4", options=_OPTIONS) as film:
        film.metadata.update(metadata or {})
        with open_file(chunks[0][0]) as container:
            stream = film.add_stream_from_template(container.streams.video[0])
        sound = None if audio_from is None else Soundtrack(film, audio_from)
        start = 0
        try:
            for path, frames in chunks:
                for packet in _shifted_packets(path, stream, start, delay, fps):
                    film.mux(packet)
                start += frames
                if sound is not None:
                    sound.advance(start / fps)
        finally:
            if sound is not None:
                sound.close()
    return () if sound is None else sound.notices


def _decoding_delay(path: Path, frames: int, first: Path) -> int:
    """Check a chunk against the first one; return how many frames ahead of display its packets must be decoded."""
    with open_file(path) as container, open_file(first) as other:
        video = container.streams.video[0]
        got, expected = (_parameters(c.streams.video[0]) for c in (container, other))
        if got != expected:
            raise FileInvalid("is a chunk of another film", file=path, expected=str(expected), got=str(got))
        times = [(p.pts, p.dts) for p in container.demux(video) if p.pts is not None and p.dts is not None]
    if len(times) != frames:
        raise FileInvalid("is not a complete chunk", file=path, expected=f"{frames} frames", got=str(len(times)))
    order = {pts: i for i, pts in enumerate(sorted(pts for pts, _ in times))}
    return max(i - order[pts] for i, (pts, _) in enumerate(times))


def _parameters(stream: VideoStream) -> tuple[int, int, str]:
    headers = stream.codec_context.extradata or b""
    return stream.width, stream.height, sha256(headers).hexdigest()[:16]


def _shifted_packets(
    path: Path, out: VideoStream, start: int, delay: int, fps: Fraction
) -> Iterator[Packet[VideoStream]]:
    """A chunk's packets with the times that they have in the film, where `start` frames come before; unit: frames."""
    with open_file(path) as container:
        packets = (p for p in container.demux(container.streams.video[0]) if p.pts is not None)
        for i, packet in enumerate(packets):
            assert packet.pts is not None
            packet.pts = start + round(packet.pts * packet.time_base * fps)
            packet.dts, packet.duration, packet.time_base = start + i - delay, 1, 1 / fps
            packet.stream = out
            yield packet
