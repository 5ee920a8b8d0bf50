"""What a video file holds, told from its packets and one decoded frame, within the recipe's bounds."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from numpy.typing import NDArray

from dancedist.errors import Notice, VideoTooLarge, VideoUnreadable
from dancedist.recipe import VideoRecipe
from dancedist.video.color import Painter, Shape, shape_of, square_size
from dancedist.video.packets import PacketIndex, has_decoder, index_packets, movie_stream, open_file, packets
from dancedist.video.timeline import Timeline, timeline

# A frame is reordered behind 16 others at most; frame threads add their number.
FIRST_FRAME_PACKETS = 64
FIRST_FRAME_KEYS = 3
MAX_REORDER = 16
HDR_TRANSFERS = {16: "PQ", 18: "HLG"}


@dataclass(frozen=True)
class Film:
    """What the poses of a film need to know of it: where it is, upright size in px, rate, length, warnings."""

    path: Path
    width: int
    height: int
    fps: Fraction
    frames: int
    notices: tuple[Notice, ...]


@dataclass(frozen=True, eq=False)
class Video:
    """A video file, as its frames will be read.

    `width` and `height` are upright and of square pixels, px. Frame i of `frames` is on show at `i / fps`
    seconds after the first, and `duration_s` is `frames / fps`. `variable_rate` says that the recorded rate
    varies and frames are resampled by timestamp. What follows `notices` is for `decode.py`: `shown` holds the
    timestamp, in `time_base`, of the recorded frame behind each index, `key_pts` where decoding can start.
    """

    path: Path
    width: int
    height: int
    fps: Fraction
    frames: int
    duration_s: float
    variable_rate: bool
    audio_codec: str | None
    video_codec: str
    notices: tuple[Notice, ...]
    shape: Shape = field(repr=False)
    time_base: Fraction = field(repr=False)
    shown: NDArray[np.int64] = field(repr=False)
    key_pts: NDArray[np.int64] = field(repr=False)
    max_decoded_pixels: int = field(repr=False)

    @property
    def parts(self) -> tuple[Video, ...]:
        """Itself: a reel has several."""
        return (self,)

    @property
    def cuts(self) -> tuple[int, ...]:
        """None: a reel has some."""
        return ()

    @property
    def film(self) -> Film:
        """The little that is left to know once it is decoded."""
        return Film(self.path, self.width, self.height, self.fps, self.frames, self.notices)


def probe(path: Path, limits: VideoRecipe) -> Video:
    """Look at a file without decoding more than its first frame.

    Raises VideoUnreadable for what is no video or does not decode, VideoTooLarge beyond `limits` (pixels per
    frame and the header's duration before anything is decoded or read on).
    """
    with open_file(path, limits.max_frame_pixels) as container:
        stream = movie_stream(container)
        if stream is None:
            kinds = ", ".join(sorted({s.type for s in container.streams})) or "nothing"
            raise VideoUnreadable("holds no moving picture", file=path, expected="a video stream", got=kinds)
        size = _bounded_size(stream, limits, path)
        _check_duration((container.duration or 0) / av.time_base, limits, path)
        index = index_packets(container, stream, limits, path)
        audio = [s.codec_context.codec.canonical_name for s in container.streams.audio if has_decoder(s)]
        rates = (stream.average_rate, stream.guessed_rate)
        codec = stream.codec_context.codec.canonical_name
    if index.cut_off:
        index = replace(index, pts=_before_first_gap(index.pts))
    times = timeline(index.pts, index.time_base, rates)
    _check_duration(len(times.shown) / float(times.fps), limits, path)
    first = _first_frame(path, index, limits)
    shape, plain_turn = shape_of(first, size)
    _check_convertible(first, shape, path)
    width, height = shape.upright_size
    return Video(
        path=path,
        width=width,
        height=height,
        fps=times.fps,
        frames=len(times.shown),
        duration_s=len(times.shown) / float(times.fps),
        variable_rate=times.variable,
        audio_codec=audio[0] if audio else None,
        video_codec=codec,
        notices=_notices(index, times, first, plain_turn),
        shape=shape,
        time_base=index.time_base,
        shown=times.shown,
        key_pts=index.key_pts,
        max_decoded_pixels=2 * limits.max_frame_pixels,
    )


def _bounded_size(stream: VideoStream, limits: VideoRecipe, path: Path) -> tuple[int, int]:
    """(width, height) with square pixels; the coded size and the stretched one are both within bounds."""
    coded = (stream.codec_context.width, stream.codec_context.height)
    if min(coded) < 1:
        raise VideoUnreadable("its frames have no size", file=path, got=f"codec {stream.codec_context.name}")
    size = square_size(*coded, stream.sample_aspect_ratio or stream.codec_context.sample_aspect_ratio)
    for width, height in (coded, size):
        if width * height > limits.max_frame_pixels:
            expected = f"at most {limits.max_frame_pixels} pixels"
            raise VideoTooLarge("frames are too large", file=path, expected=expected, got=f"{width}x{height}")
    return size


def _check_duration(duration_s: float, limits: VideoRecipe, path: Path) -> None:
    if duration_s > limits.max_duration_s:
        expected = f"at most {limits.max_duration_s:g} s"
        raise VideoTooLarge("too long", file=path, expected=expected, got=f"{duration_s:.1f} s")


def _before_first_gap(pts: NDArray[np.int64]) -> NDArray[np.int64]:
    """A file that was cut off lacks frames among its last ones: B-frames come after what they lie before."""
    start = max(0, len(pts) - 1 - MAX_REORDER)
    gaps = np.diff(pts[start:]) > 1.5 * np.median(np.diff(pts)) if len(pts) > 1 else np.array([], np.bool_)
    return pts[: start + int(np.argmax(gaps)) + 1] if gaps.any() else pts


def _first_frame(path: Path, index: PacketIndex, limits: VideoRecipe) -> VideoFrame:
    """The first frame that decodes, tried at the start and at the next keyframes."""
    failure = "no frame"
    for at in (None, *index.key_pts[1:FIRST_FRAME_KEYS].tolist()):
        with open_file(path, limits.max_frame_pixels) as container:
            frame, failure = _decode_one(container, at, limits)
            if frame is not None:
                return frame
    raise VideoUnreadable("none of its first frames decodes", file=path, got=failure)


def _decode_one(container: InputContainer, at: int | None, limits: VideoRecipe) -> tuple[VideoFrame | None, str]:
    stream = movie_stream(container)
    assert stream is not None
    stream.codec_context.options = {"max_pixels": str(2 * limits.max_frame_pixels)}
    failure = "no frame"
    try:
        if at is not None:
            container.seek(at, stream=stream)
        for tried, packet in enumerate(packets(container, [stream])):
            for frame in stream.decode(packet):
                return frame, ""
            if tried >= FIRST_FRAME_PACKETS:
                return None, failure
        for frame in stream.decode(None):
            return frame, ""
    except av.FFmpegError as error:
        failure = error.strerror or str(error)
    return None, failure


def _check_convertible(frame: VideoFrame, shape: Shape, path: Path) -> None:
    try:
        Painter(shape).rgb(frame)
    except (av.FFmpegError, ValueError) as error:
        raise VideoUnreadable("its pixel format cannot be converted", file=path, got=frame.format.name) from error


def _notices(index: PacketIndex, times: Timeline, first: VideoFrame, plain_turn: bool) -> tuple[Notice, ...]:
    found = []
    if index.cut_off:
        promise = f"its header promises {index.promised} frames" if index.promised else "its header promises more"
        found.append(
            Notice("cut-off", f"the first missing frame of a file that was cut off: {promise}", len(times.shown))
        )
    if times.variable:
        found.append(
            Notice("variable-rate", f"the frame rate varies: resampled to its mean, {float(times.fps):.3f} /s")
        )
    if times.repeated:
        found.append(
            Notice("frames-left-out", f"frames left out by the recorder: {times.repeated}; their neighbours stand in")
        )
    if first.color_trc in HDR_TRANSFERS:
        found.append(Notice("hdr", f"{HDR_TRANSFERS[first.color_trc]} brightness is not mapped: colours look flat"))
    if first.interlaced_frame:
        found.append(Notice("interlaced", "interlaced: moving edges are combed"))
    if not plain_turn:
        found.append(Notice("odd-rotation", "rotated by no quarter turn: the nearest one is taken"))
    return tuple(found)
