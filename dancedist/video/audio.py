"""Mux the sound of another file into a film, in sync: copied where MP4 supports the codec, else encoded as AAC."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path

import av
from av.audio.stream import AudioStream
from av.container import OutputContainer
from av.filter import Graph
from av.packet import Packet
from av.stream import Stream

from dancedist.errors import Notice
from dancedist.video.packets import has_decoder, open_file, packets, timestamp, video_start_s

COPIED_CODECS = {"aac", "ac3", "alac", "eac3", "flac", "mp3", "opus"}
AAC_RATES_HZ = {8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000, 64000, 88200, 96000}
AAC_BITS_PER_S = 192_000
AAC_FRAME_SAMPLES = 1024
# Decoders need the packets just before the first audible one; an edit list keeps these silent.
PRE_ROLL_S = Fraction(1, 10)


class Soundtrack:
    """The sound of `source`, aligned so that the first video frame of `source` coincides with the film's first frame.

    `advance` muxes the packets before a time of the film, so that sound and video are interleaved in the file. Packets
    after the last such time are left out.
    """

    def __init__(self, film: OutputContainer, source: Path) -> None:
        self.notices: tuple[Notice, ...] = ()
        self._film = film
        with open_file(source) as container:
            shift_s = video_start_s(container)
        self._source = open_file(source)
        self._packets = self._open(self._source.streams.audio, source, shift_s)
        self._next = next(self._packets, None)

    def advance(self, until_s: Fraction) -> None:
        """Mux all packets that start before `until_s` seconds of the film."""
        while self._next is not None and _start_s(self._next) < until_s:
            self._film.mux(self._next)
            self._next = next(self._packets, None)

    def close(self) -> None:
        """Close the source; packets that were not muxed are left out."""
        self._next, self._packets = None, iter(())
        self._source.close()

    def _open(self, streams: Sequence[AudioStream], source: Path, shift_s: Fraction) -> Iterator[Packet[Stream]]:
        if not streams:
            return iter(())
        stream = streams[0]
        if not has_decoder(stream):
            self.notices = (Notice("sound-left-out", f"{source}: sound left out, as there is no decoder for it"),)
            return iter(())
        codec = stream.codec_context.codec.canonical_name
        if codec in COPIED_CODECS:
            return self._copy(stream, shift_s)
        text = f"{source}: sound encoded again as AAC, as MP4 does not support {codec}"
        self.notices = (Notice("sound-encoded-again", text),)
        return self._encode(stream, shift_s)

    def _copy(self, stream: AudioStream, shift_s: Fraction) -> Iterator[Packet[Stream]]:
        assert stream.time_base is not None
        out = self._film.add_stream_from_template(stream)
        shift = round(shift_s / stream.time_base)
        return _shift(packets(self._source, [stream]), out, shift)

    def _encode(self, stream: AudioStream, shift_s: Fraction) -> Iterator[Packet[Stream]]:
        rate = stream.codec_context.sample_rate
        rate = rate if rate in AAC_RATES_HZ else 48000
        out = self._film.add_stream("aac", rate=rate, bit_rate=AAC_BITS_PER_S)
        out.codec_context.layout = layout = "mono" if stream.codec_context.channels == 1 else "stereo"
        return _encode_aac(_resample(packets(self._source, [stream]), stream, shift_s, rate, layout), out)


def _start_s(packet: Packet[Stream]) -> Fraction:
    assert packet.pts is not None
    return packet.pts * packet.time_base


def _shift(source: Iterator[Packet[Stream]], out: Stream, shift: int) -> Iterator[Packet[Stream]]:
    """Move packets `shift` ticks earlier; decoding timestamps ascend even if those of the source do not."""
    last_dts: int | None = None
    for packet in source:
        pts = timestamp(packet)
        if pts is None:
            continue
        dts = (pts if packet.dts is None else packet.dts) - shift
        packet.pts, packet.dts = pts - shift, dts
        if _start_s(packet) < -PRE_ROLL_S or (last_dts is not None and dts <= last_dts):
            continue
        last_dts = dts
        packet.stream = out
        yield packet


def _resample(
    source: Iterator[Packet[Stream]], stream: AudioStream, shift_s: Fraction, rate: int, layout: str
) -> Iterator[av.AudioFrame]:
    """Decoded, resampled sound from 0 seconds of the film on; silence where the source has a gap or starts late."""
    context = stream.codec_context
    assert stream.time_base is not None
    graph = Graph()
    nodes = [
        graph.add_abuffer(
            sample_rate=context.sample_rate,
            format=context.format,
            layout=context.layout,
            time_base=stream.time_base,
        ),
        graph.add("aresample", f"{rate}:async=1:min_hard_comp=0.01:first_pts=0"),
        graph.add("aformat", f"sample_fmts=fltp:sample_rates={rate}:channel_layouts={layout}"),
        graph.add("asetnsamples", f"n={AAC_FRAME_SAMPLES}:p=0"),
        graph.add("abuffersink"),
    ]
    graph.link_nodes(*nodes).configure()
    shift = round(shift_s / stream.time_base)
    for frame in _decode(source, stream):
        if frame is not None and frame.pts is not None:
            frame.pts -= shift
        graph.push(frame)
        yield from _pull(graph)


def _decode(source: Iterator[Packet[Stream]], stream: AudioStream) -> Iterator[av.AudioFrame | None]:
    """Frames of the packets that can be decoded, then None."""
    for packet in source:
        try:
            yield from stream.decode(packet)
        except av.FFmpegError:
            continue
    yield None


def _pull(graph: Graph) -> Iterator[av.AudioFrame]:
    while True:
        try:
            frame = graph.pull()
        except (av.BlockingIOError, av.EOFError):
            return
        assert isinstance(frame, av.AudioFrame)
        yield frame


def _encode_aac(frames: Iterator[av.AudioFrame], out: AudioStream) -> Iterator[Packet[Stream]]:
    for frame in frames:
        yield from out.encode(frame)
    yield from out.encode(None)
