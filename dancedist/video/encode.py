"""Write frames to an MP4 file, atomically: H.264 High, yuv420p, BT.709, with the sound of another file."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from contextlib import ExitStack
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import av
import cv2
import numpy as np
from av.codec.context import Flags
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc, Interpolation, VideoReformatter
from av.video.stream import VideoStream
from numpy.typing import NDArray

from dancedist.errors import Notice
from dancedist.files import atomic_write
from dancedist.video.audio import Soundtrack

# Keys that MP4 stores; others would be dropped silently.
METADATA_KEYS = {"title", "artist", "comment", "copyright", "date", "description", "genre", "keywords"}
BEST_CHROMA = Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INP


class FilmWriter:
    """Write frames of one size at a constant rate: `with FilmWriter(...) as film: film.write(frame)`.

    The complete file appears at the end of the block; after an exception, no file is left. An odd side is padded by
    repeating the edge. `crf` and `x264_preset` are x264's. With `group_frames`, every group of that many frames is
    encoded independently: equal frames give equal packets, whatever precedes them. The sound of `audio_from` is
    aligned at its first video frame and ends with the film; `notices` says if it was encoded again or left out.
    """

    def __init__(
        self,
        path: Path,
        fps: Fraction,
        *,
        crf: int,
        x264_preset: str,
        group_frames: int | None = None,
        audio_from: Path | None = None,
        metadata: dict[str, str] | None = None,
    ) -> None:
        assert fps > 0
        assert set(metadata or {}) <= METADATA_KEYS, metadata
        self.notices: tuple[Notice, ...] = ()
        self.frames = 0
        self._path, self._fps, self._audio_from, self._group_frames = path, fps, audio_from, group_frames
        # mbtree reads uninitialised memory in x264: with it, the same frames sometimes gave different packets.
        self._options = {"crf": str(crf), "preset": x264_preset, "profile": "high", "8x8dct": "1", "mbtree": "0"}
        self._metadata = metadata or {}
        self._atomic_file = ExitStack()
        self._reformatter = VideoReformatter()
        self._stream: VideoStream | None = None
        self._encoder: VideoCodecContext | None = None
        self._sound: Soundtrack | None = None

    def __enter__(self) -> Self:
        partial = self._atomic_file.enter_context(atomic_write(self._path))
        self._file = av.open(str(partial.absolute()), "w", format="mp4", options={"movflags": "+faststart"})
        self._file.metadata.update(self._metadata)
        return self

    def write(self, frame: NDArray[np.uint8]) -> None:
        """Append a frame, uint8 RGB (H, W, 3); all frames have the size of the first."""
        height, width = frame.shape[:2]
        even = np.asarray(cv2.copyMakeBorder(frame, 0, height % 2, 0, width % 2, cv2.BORDER_REPLICATE), np.uint8)
        stream = self._stream or self._start(even.shape[1], even.shape[0])
        assert (stream.width, stream.height) == even.shape[1::-1], "the frames of a film must have one size"
        if self._group_frames is not None and self.frames % self._group_frames == 0:
            self._encode(stream, None)
            self._encoder = self._new_encoder(stream)
        self._encode(stream, self._to_yuv(even))
        self.frames += 1
        if self._sound is not None:
            self._sound.advance(self.frames / self._fps)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        outcome: tuple[Any, Any, Any] = (kind, error, trace)
        try:
            if kind is None:
                assert self._stream is not None, "a film with no frames"
                self._encode(self._stream, None)
            self._close()
        except BaseException:
            outcome = sys.exc_info()
            raise
        finally:
            self._atomic_file.__exit__(*outcome)

    def _start(self, width: int, height: int) -> VideoStream:
        stream = self._file.add_stream("libx264", rate=self._fps, width=width, height=height, options=self._options)
        self._configure(stream.codec_context)
        self._stream = stream
        if self._group_frames is None:
            self._encoder = stream.codec_context
        if self._audio_from is not None:
            self._sound = Soundtrack(self._file, self._audio_from)
            self.notices = self._sound.notices
        return stream

    def _configure(self, context: VideoCodecContext) -> None:
        context.pix_fmt, context.time_base = "yuv420p", 1 / self._fps
        context.colorspace, context.color_range = Colorspace.ITU709, ColorRange.MPEG
        context.color_primaries, context.color_trc = ColorPrimaries.BT709, ColorTrc.BT709

    def _new_encoder(self, stream: VideoStream) -> VideoCodecContext:
        """An encoder like the stream's own, whose headers are in the file."""
        context = VideoCodecContext.create("libx264", "w")
        context.width, context.height, context.framerate = stream.width, stream.height, self._fps
        context.options = self._options
        context.flags |= Flags.global_header
        self._configure(context)
        return context

    def _encode(self, stream: VideoStream, coded: VideoFrame | None) -> None:
        for packet in self._encoder.encode(coded) if self._encoder is not None else ():
            packet.stream = stream
            self._file.mux(packet)

    def _to_yuv(self, frame: NDArray[np.uint8]) -> VideoFrame:
        coded = self._reformatter.reformat(
            VideoFrame.from_ndarray(frame, format="rgb24"),
            format="yuv420p",
            dst_colorspace=Colorspace.ITU709,
            dst_color_range=ColorRange.MPEG,
            interpolation=BEST_CHROMA,
            threads=1,
        )
        coded.color_primaries, coded.color_trc = ColorPrimaries.BT709, ColorTrc.BT709
        coded.pts, coded.time_base, coded.duration = self.frames, 1 / self._fps, 1
        return coded

    def _close(self) -> None:
        if self._sound is not None:
            self._sound.close()
        self._file.close()


def write_film(
    path: Path,
    frames: Iterable[NDArray[np.uint8]],
    fps: Fraction,
    *,
    crf: int,
    x264_preset: str,
    group_frames: int | None = None,
    audio_from: Path | None = None,
    metadata: dict[str, str] | None = None,
) -> tuple[Notice, ...]:
    """Write frames, uint8 RGB (H, W, 3) of one size, as a film; see `FilmWriter`. Returns its notices."""
    with FilmWriter(
        path, fps, crf=crf, x264_preset=x264_preset, group_frames=group_frames, audio_from=audio_from, metadata=metadata
    ) as film:
        for frame in frames:
            film.write(frame)
    return film.notices
