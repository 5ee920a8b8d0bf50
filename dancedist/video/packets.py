"""Read a media file as packets: open untrusted files safely, index packets without decoding."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice
from pathlib import Path

import av
import numpy as np
from av.container import InputContainer
from av.packet import Packet
from av.stream import Disposition, Stream
from av.video.stream import VideoStream
from numpy.typing import NDArray

from dancedist.errors import VideoTooLarge, VideoUnreadable
from dancedist.recipe.schema import VideoRecipe

# Allow-list, so that an uploaded playlist or script (HLS, concat, SDP) cannot make FFmpeg open other files or hosts.
FORMATS = "mov matroska webm avi mpegts mpeg flv ogg asf mxf nut ivf gif dv yuv4mpegpipe wav w64 aiff mp3 aac flac caf"
STILL_IMAGES = Disposition.attached_pic | Disposition.still_image | Disposition.timed_thumbnails
MAX_READ_FAILURES = 8
REORDER_PACKETS = 64


@dataclass(frozen=True, eq=False)
class PacketIndex:
    """Timestamps of one video stream's packets: `pts` and `key_pts`, int64 (N,), ascending, in `time_base`.

    `pts` are the frames that are shown, `key_pts` the keyframes, at which decoding can start. `declared_frames` is
    the number of frames in the header, None if the header has none. `cut_off`: whether the file ends before the end
    that its header declares.
    """

    pts: NDArray[np.int64]
    key_pts: NDArray[np.int64]
    time_base: Fraction
    declared_frames: int | None
    cut_off: bool


def open_file(path: Path, max_frame_pixels: int | None = None) -> InputContainer:
    """Open a local video or sound file. Raises VideoUnreadable."""
    if not path.is_file():
        raise VideoUnreadable("does not exist", file=path)
    options = {"format_whitelist": FORMATS.replace(" ", ","), "protocol_whitelist": "file"}
    if max_frame_pixels is not None:
        # FFmpeg may decode a frame on opening, to detect the pixel format.
        options["max_pixels"] = str(2 * max_frame_pixels)
    try:
        return av.open(str(path.absolute()), "r", options=options, metadata_errors="replace")
    except av.FFmpegError as error:
        raise VideoUnreadable("is not a video", file=path, got=error.strerror or str(error)) from error


def movie_stream(container: InputContainer) -> VideoStream | None:
    """The first video stream that has a decoder and is not a still image, such as a cover picture."""
    for stream in container.streams.video:
        if has_decoder(stream) and not stream.disposition & STILL_IMAGES:
            return stream
    return None


def has_decoder(stream: Stream) -> bool:
    """Whether this FFmpeg has a decoder for the stream."""
    return stream.codec_context is not None


def packets(container: InputContainer, streams: Sequence[Stream]) -> Iterator[Packet[Stream]]:
    """Complete, non-empty packets, up to the end or to a read error that persists."""
    for _ in range(MAX_READ_FAILURES):
        try:
            for packet in container.demux(list(streams)):
                # Skips packets truncated by the end of the file or a gap in a broadcast.
                if packet.size and not packet.is_corrupt:
                    yield packet
            return
        except av.FFmpegError:
            continue


def video_start_s(container: InputContainer) -> Fraction:
    """Time of the first video frame in seconds of the file's clock; 0 for a file without video."""
    stream = movie_stream(container)
    if stream is None:
        return Fraction(0)
    early = (timestamp(p) for p in islice(packets(container, [stream]), REORDER_PACKETS) if not p.is_discard)
    return min((at for at in early if at is not None), default=0) * (stream.time_base or Fraction(0))


def timestamp(item: Packet[Stream] | av.VideoFrame) -> int | None:
    """Presentation timestamp in ticks of its stream; the decoding timestamp if the container has no other."""
    return item.dts if item.pts is None else item.pts


def index_packets(container: InputContainer, stream: VideoStream, limits: VideoRecipe, path: Path) -> PacketIndex:
    """Index one stream by reading the file once, without decoding.

    Raises VideoTooLarge as soon as there are too many frames, VideoUnreadable if there are none.
    """
    assert stream.time_base is not None
    shown: list[int] = []
    keys: list[int] = []
    counted, end_s = 0, 0.0
    for packet in packets(container, [stream] if stream.frames else list(container.streams)):
        at = timestamp(packet)
        if at is not None and packet.time_base:
            end_s = max(end_s, float((at + (packet.duration or 0)) * packet.time_base))
        if packet.stream_index != stream.index:
            continue
        counted += 1
        if counted > limits.max_frames:
            raise VideoTooLarge("has too many frames", file=path, expected=f"at most {limits.max_frames}", got="more")
        if at is None or _is_hidden(packet, stream):
            continue
        if not packet.is_discard:
            shown.append(at)
        if packet.is_keyframe:
            keys.append(at)
    if not shown:
        raise VideoUnreadable("has no frames", file=path)
    return PacketIndex(
        pts=np.unique(np.array(shown, np.int64)),
        key_pts=np.unique(np.array(keys, np.int64)),
        time_base=stream.time_base,
        declared_frames=stream.frames or None,
        cut_off=stream.frames > counted if stream.frames else _is_short(container, end_s),
    )


def _is_hidden(packet: Packet[Stream], stream: VideoStream) -> bool:
    """Whether it is a VP8 reference frame that is never shown; these have their own packets (RFC 6386, 9.1)."""
    return stream.codec_context.codec.canonical_name == "vp8" and not bytes(packet)[0] >> 4 & 1


def _is_short(container: InputContainer, end_s: float) -> bool:
    """Whether the packets end over a second before the end in the header; `duration` includes the start time."""
    if not container.duration:
        return False
    start_s = (container.start_time or 0) / av.time_base
    return start_s + container.duration / av.time_base - end_s > 1
