"""Inspect a video file by its packets and one decoded frame, within the recipe's bounds."""

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
from dancedist.recipe.schema import VideoRecipe
from dancedist.video.color import FrameConverter, Shape, shape_of, square_size
from dancedist.video.packets import PacketIndex, has_decoder, index_packets, movie_stream, open_file, packets
from dancedist.video.timeline import Timeline, timeline

# Packets to try until the first frame appears: a frame is reordered behind at most 16 others, plus frame threads.
FIRST_FRAME_PACKETS = 64
FIRST_FRAME_KEYS = 3
MAX_REORDER = 16
HDR_TRANSFERS = {16: "PQ", 18: "HLG"}


@dataclass(frozen=True)
class VideoInfo:
    """Facts about a video that its poses depend on: path, upright size in px, rate, length, warnings."""

    path: Path
    width: int
    height: int
    fps: Fraction
    frames: int
    notices: tuple[Notice, ...]


@dataclass(frozen=True, eq=False)
class Video:
    """A video file as its frames are read.

    `width` and `height` are px of the upright frame with square pixels. Frame i of `frames` is shown `i / fps`
    seconds after the first, and `duration_s` is `frames / fps`. `variable_rate`: the recorded rate varies, and frames
    are resampled by timestamp. The fields after `notices` are for `decode.py`: `shown`, int64 (frames,), holds the
    timestamp in `time_base` of the recorded frame at each index, `key_pts`, int64 (N,), those of the keyframes.
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
        """The video itself; see `ConcatVideo.parts`."""
        return (self,)

    @property
    def cuts(self) -> tuple[int, ...]:
        """No cuts; see `ConcatVideo.cuts`."""
        return ()

    @property
    def info(self) -> VideoInfo:
        """The facts that its poses depend on."""
        return VideoInfo(self.path, self.width, self.height, self.fps, self.frames, self.notices)


def probe(path: Path, limits: VideoRecipe) -> Video:
    """Inspect a file without decoding more than its first frame.

    Raises VideoUnreadable if it is not a video or cannot be decoded, VideoTooLarge if it exceeds `limits`. Pixels per
    frame and the duration in the header are checked before anything is decoded or read further.
    """
    with open_file(path, limits.max_frame_pixels) as container:
        stream = movie_stream(container)
        if stream is None:
            types = ", ".join(sorted({s.type for s in container.streams})) or "nothing"
            raise VideoUnreadable("has no decodable video", file=path, expected="a video stream", got=types)
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
    shape, quarter_turns = shape_of(first, size)
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
        notices=_notices(index, times, first, quarter_turns),
        shape=shape,
        time_base=index.time_base,
        shown=times.shown,
        key_pts=index.key_pts,
        max_decoded_pixels=2 * limits.max_frame_pixels,
    )


def _bounded_size(stream: VideoStream, limits: VideoRecipe, path: Path) -> tuple[int, int]:
    """(width, height) px with square pixels. Raises VideoTooLarge if the coded or the stretched size is too large."""
    coded = (stream.codec_context.width, stream.codec_context.height)
    if min(coded) < 1:
        raise VideoUnreadable("has frames without a size", file=path, got=f"codec {stream.codec_context.name}")
    size = square_size(*coded, stream.sample_aspect_ratio or stream.codec_context.sample_aspect_ratio)
    for width, height in (coded, size):
        if width * height > limits.max_frame_pixels:
            expected = f"at most {limits.max_frame_pixels} pixels"
            raise VideoTooLarge("has frames that are too large", file=path, expected=expected, got=f"{width}x{height}")
    return size


def _check_duration(duration_s: float, limits: VideoRecipe, path: Path) -> None:
    if duration_s > limits.max_duration_s:
        expected = f"at most {limits.max_duration_s:g} s"
        raise VideoTooLarge("is too long", file=path, expected=expected, got=f"{duration_s:.1f} s")


def _before_first_gap(pts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Timestamps up to the first gap among the last ones.

    A truncated file may have such gaps: B-frames are stored after the frames that are shown after them.
    """
    start = max(0, len(pts) - 1 - MAX_REORDER)
    gaps = np.diff(pts[start:]) > 1.5 * np.median(np.diff(pts)) if len(pts) > 1 else np.array([], np.bool_)
    return pts[: start + int(np.argmax(gaps)) + 1] if gaps.any() else pts


def _first_frame(path: Path, index: PacketIndex, limits: VideoRecipe) -> VideoFrame:
    """The first frame that can be decoded, from the start or from one of the next keyframes."""
    failure = "no frame"
    for key_pts in (None, *index.key_pts[1:FIRST_FRAME_KEYS].tolist()):
        with open_file(path, limits.max_frame_pixels) as container:
            frame, failure = _decode_one(container, key_pts, limits)
            if frame is not None:
                return frame
    raise VideoUnreadable("cannot be decoded at its start", file=path, got=failure)


def _decode_one(container: InputContainer, key_pts: int | None, limits: VideoRecipe) -> tuple[VideoFrame | None, str]:
    stream = movie_stream(container)
    assert stream is not None
    stream.codec_context.options = {"max_pixels": str(2 * limits.max_frame_pixels)}
    failure = "no frame"
    try:
        if key_pts is not None:
            container.seek(key_pts, stream=stream)
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
        FrameConverter(shape).rgb(frame)
    except (av.FFmpegError, ValueError) as error:
        message = "has a pixel format that cannot be converted"
        raise VideoUnreadable(message, file=path, got=frame.format.name) from error


def _notices(index: PacketIndex, times: Timeline, first: VideoFrame, quarter_turns: bool) -> tuple[Notice, ...]:
    notices = []
    if index.cut_off:
        declared = f"{index.declared_frames} frames" if index.declared_frames else "a longer video"
        text = f"the file is truncated from here on: its header declares {declared}"
        notices.append(Notice("cut-off", text, len(times.shown)))
    if times.variable:
        text = f"the frame rate varies: frames are resampled to the mean rate, {float(times.fps):.3f} /s"
        notices.append(Notice("variable-rate", text))
    if times.repeated:
        text = f"frames missing in the recording: {times.repeated}; each is replaced by a neighbour"
        notices.append(Notice("frames-left-out", text))
    if first.color_trc in HDR_TRANSFERS:
        text = f"{HDR_TRANSFERS[first.color_trc]} brightness is not tone-mapped: colours look flat"
        notices.append(Notice("hdr", text))
    if first.interlaced_frame:
        notices.append(Notice("interlaced", "the video is interlaced: moving edges show comb artefacts"))
    if not quarter_turns:
        text = "the rotation is not a multiple of 90 degrees: the nearest one is used"
        notices.append(Notice("odd-rotation", text))
    return tuple(notices)
