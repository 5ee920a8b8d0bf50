"""The sound of another file beside a film: its packets as they are where MP4 takes them, else AAC, in sync."""

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
from dancedist.video.packets import has_decoder, open_file, packets, picture_start_s, timestamp

COPIED = {"aac", "ac3", "alac", "eac3", "flac", "mp3", "opus"}
AAC_RATES_HZ = {8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000, 64000, 88200, 96000}
AAC_BITS_PER_S = 192_000
AAC_FRAME_SAMPLES = 1024
# Decoders need the packets just before the first one heard; an edit list keeps them from being heard.
PRE_ROLL_S = Fraction(1, 10)


class Soundtrack:
    """Sound of `source`, so that what was heard with its first frame is heard with the film's first frame.

    `advance` muxes what starts before a time of the film, so that sound and picture lie side by side in the
    file, and what is never asked for is left out.
    """

    def __init__(self, film: OutputContainer, source: Path) -> None:
        self.notices: tuple[Notice, ...] = ()
        self._film = film
        with open_file(source) as container:
            shift_s = picture_start_s(container)
        self._source = open_file(source)
        self._packets = self._opened(self._source.streams.audio, source, shift_s)
        self._next = next(self._packets, None)

    def advance(self, until_s: Fraction) -> None:
        """Mux all packets that start before `until_s` seconds of the film."""
        while self._next is not None and _start_s(self._next) < until_s:
            self._film.mux(self._next)
            self._next = next(self._packets, None)

    def close(self) -> None:
        """Close the source; what was not muxed is left out."""
        self._next, self._packets = None, iter(())
        self._source.close()

    def _opened(self, streams: Sequence[AudioStream], source: Path, shift_s: Fraction) -> Iterator[Packet[Stream]]:
        if not streams:
            return iter(())
        stream = streams[0]
        if not has_decoder(stream):
            self.notices = (Notice("sound-left-out", f"{source}: no decoder for its sound"),)
            return iter(())
        codec = stream.codec_context.codec.canonical_name
        if codec in COPIED:
            return self._copied(stream, shift_s)
        self.notices = (Notice("sound-encoded-again", f"{source}: MP4 takes no {codec}, its sound is AAC now"),)
        return self._encoded(stream, shift_s)

    def _copied(self, stream: AudioStream, shift_s: Fraction) -> Iterator[Packet[Stream]]:
        assert stream.time_base is not None
        out = self._film.add_stream_from_template(stream)
        shift = round(shift_s / stream.time_base)
        return _shifted(packets(self._source, [stream]), out, shift)

    def _encoded(self, stream: AudioStream, shift_s: Fraction) -> Iterator[Packet[Stream]]:
        rate = stream.codec_context.sample_rate
        rate = rate if rate in AAC_RATES_HZ else 48000
        out = self._film.add_stream("aac", rate=rate, bit_rate=AAC_BITS_PER_S)
        out.codec_context.layout = layout = "mono" if stream.codec_context.channels == 1 else "stereo"
        return _as_aac(_filtered(packets(self._source, [stream]), stream, shift_s, rate, layout), out)


def _start_s(packet: Packet[Stream]) -> Fraction:
    assert packet.pts is not None
    return packet.pts * packet.time_base


def _shifted(source: Iterator[Packet[Stream]], out: Stream, shift: int) -> Iterator[Packet[Stream]]:
    """Packets that start `shift` ticks earlier; decoding times ascend, whatever the source says."""
    last_dts: int | None = None
    for packet in source:
        at = timestamp(packet)
        if at is None:
            continue
        dts = (at if packet.dts is None else packet.dts) - shift
        packet.pts, packet.dts = at - shift, dts
        if _start_s(packet) < -PRE_ROLL_S or (last_dts is not None and dts <= last_dts):
            continue
        last_dts = dts
        packet.stream = out
        yield packet


def _filtered(
    source: Iterator[Packet[Stream]], stream: AudioStream, shift_s: Fraction, rate: int, layout: str
) -> Iterator[av.AudioFrame]:
    """Decoded sound from 0 seconds of the film on; silence where the source has a gap or starts late."""
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
    for frame in _decoded(source, stream):
        if frame is not None and frame.pts is not None:
            frame.pts -= shift
        graph.push(frame)
        yield from _pulled(graph)


def _decoded(source: Iterator[Packet[Stream]], stream: AudioStream) -> Iterator[av.AudioFrame | None]:
    """Frames of the packets that decode, then None."""
    for packet in source:
        try:
            yield from stream.decode(packet)
        except av.FFmpegError:
            continue
    yield None


def _pulled(graph: Graph) -> Iterator[av.AudioFrame]:
    while True:
        try:
            frame = graph.pull()
        except (av.BlockingIOError, av.EOFError):
            return
        assert isinstance(frame, av.AudioFrame)
        yield frame


def _as_aac(frames: Iterator[av.AudioFrame], out: AudioStream) -> Iterator[Packet[Stream]]:
    for frame in frames:
        yield from out.encode(frame)
    yield from out.encode(None)
