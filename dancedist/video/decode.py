"""Decode any range of frames exactly: seek to the keyframe before it and drop earlier frames by timestamp."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterator, Sequence
from itertools import chain

import av
import numpy as np
from av.container import InputContainer
from av.packet import Packet
from av.stream import Stream
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from numpy.typing import NDArray

from dancedist.video.color import FrameConverter
from dancedist.video.concat import Footage, spans
from dancedist.video.packets import movie_stream, open_file, packets, timestamp
from dancedist.video.probe import Video

# Damage also affects earlier frames, at most as many as there may be consecutive B-frames: so many are buffered.
BUFFERED_FRAMES = 16
BUFFERED_PIXELS = 150_000_000


def read_frames(
    video: Footage, start_frame: int = 0, stop_frame: int | None = None
) -> Iterator[NDArray[np.uint8] | None]:
    """Frames [start, stop) as upright uint8 RGB (height, width, 3); exactly stop - start items.

    None stands for a frame that cannot be decoded, or that comes between such a frame and the next good keyframe. A
    frame's bytes do not depend on the range. Memory does not grow with the length.
    """
    stop = video.frames if stop_frame is None else stop_frame
    assert 0 <= start_frame <= stop <= video.frames, (start_frame, stop, video.frames)
    parts = spans(video, start_frame, stop)
    return chain.from_iterable(_rgb_frames(part, part.shown[first:end]) for part, first, end in parts)


def read_frame_at(video: Footage, frames: Sequence[int]) -> Iterator[NDArray[np.uint8] | None]:
    """The frames of ascending indices `frames`: upright uint8 RGB (H, W, 3), or None as in `read_frames`.

    Decodes only from the keyframes before these frames.
    """
    indices = np.asarray(frames, np.int64)
    assert np.all(np.diff(indices) >= 0), "frame indices must be ascending"
    assert not len(indices) or (indices[0] >= 0 and indices[-1] < video.frames), (indices[0], indices[-1], video.frames)
    offset = 0
    for part in video.parts:
        within = indices[np.searchsorted(indices, offset) : np.searchsorted(indices, offset + part.frames)]
        yield from _rgb_by_group(part, part.shown[within - offset])
        offset += part.frames


def _rgb_by_group(video: Video, timestamps: NDArray[np.int64]) -> Iterator[NDArray[np.uint8] | None]:
    groups = np.searchsorted(video.key_pts, timestamps, side="right")
    for group in np.split(timestamps, np.flatnonzero(np.diff(groups)) + 1):
        yield from _rgb_frames(video, group)


def _rgb_frames(video: Video, timestamps: NDArray[np.int64]) -> Iterator[NDArray[np.uint8] | None]:
    """One RGB frame, or None, for each of the ascending timestamps."""
    converter = FrameConverter(video.shape)
    done = 0
    for frame in _intact_frames(video, timestamps) if len(timestamps) else ():
        pts = timestamp(frame)
        # Missing frames are None; a frame that is shown at several indices is repeated.
        while done < len(timestamps) and timestamps[done] < pts:
            yield None
            done += 1
        if done < len(timestamps) and timestamps[done] == pts:
            rgb = _convert(converter, frame)
            while done < len(timestamps) and timestamps[done] == pts:
                yield rgb
                done += 1
        if done == len(timestamps):
            return
    for _ in range(done, len(timestamps)):
        yield None


def _convert(converter: FrameConverter, frame: VideoFrame) -> NDArray[np.uint8] | None:
    try:
        return converter.rgb(frame)
    except av.FFmpegError:
        return None


def _intact_frames(video: Video, timestamps: NDArray[np.int64]) -> Iterator[VideoFrame]:
    """Undamaged frames from the first timestamp on, in order of time.

    With frame threads, the output of a damaged stream is not deterministic: a damaged group (a keyframe and the
    frames up to the next one) is therefore decoded again without them. Damage is detected some frames late, so that
    many frames are buffered.
    """
    first: int | None = int(timestamps[0])
    while first is not None:
        first = yield from _until_damaged(video, first)
        if first is not None:
            end = _key_after(video, first)
            yield from _damaged_group(video, first, end)
            first = end


def _until_damaged(video: Video, first: int) -> Generator[VideoFrame, None, int | None]:
    """Frames from `first` on; returns where damage may begin, or None at the end of an undamaged stream."""
    buffer: deque[VideoFrame] = deque()
    capacity = max(2, min(BUFFERED_FRAMES, BUFFERED_PIXELS // (video.width * video.height)))
    try:
        for frame in _decode(video, first, None, threads=0):
            if frame.is_corrupt:
                return first
            buffer.append(frame)
            if len(buffer) > capacity:
                intact = buffer.popleft()
                first = max(first, (timestamp(intact) or 0) + 1)
                yield intact
    except av.FFmpegError:
        return first
    yield from buffer
    return None


def _damaged_group(video: Video, first: int, end: int | None) -> Iterator[VideoFrame]:
    """Frames of one damaged group up to the first error; the frames after it depend on it and are left out."""
    failed: list[int] = []
    for frame in _decode(video, first, end, threads=1, failed=failed):
        pts = timestamp(frame)
        if pts is None or (end is not None and pts >= end):
            continue
        if frame.is_corrupt:
            failed.append(pts)
        # Errors of other groups occur only if the stream had to be decoded from its start.
        if _key_after(video, pts) not in {_key_after(video, f) for f in failed}:
            yield frame


def _key_after(video: Video, pts: int) -> int | None:
    later = video.key_pts[np.searchsorted(video.key_pts, pts, side="right") :]
    return int(later[0]) if len(later) else None


def _decode(
    video: Video, first: int, end: int | None, *, threads: int, failed: list[int] | None = None
) -> Iterator[VideoFrame]:
    """Decoded frames from the keyframe at or before `first` up to the keyframe at `end` (None: up to the last frame).

    A packet that cannot be decoded raises, or is appended to `failed`, by its timestamp, if that is given.
    """
    if np.any(video.key_pts[1:] <= first):
        with open_file(video.path) as container:
            key_pts = _seek_key(container, video, first)
            if key_pts is not None:
                yield from _decode_from(container, video, key_pts, end, threads, failed)
                return
    with open_file(video.path) as container:
        yield from _decode_from(container, video, None, end, threads, failed)


def _decode_from(
    container: InputContainer,
    video: Video,
    key_pts: int | None,
    end: int | None,
    threads: int,
    failed: list[int] | None,
) -> Iterator[VideoFrame]:
    stream = _video_stream(container)
    stream.thread_type, stream.thread_count = "AUTO", threads
    stream.codec_context.options = {"max_pixels": str(video.max_decoded_pixels)}
    for packet in _group_packets(container, stream, key_pts, end):
        try:
            frames = stream.decode(packet)
        except av.FFmpegError:
            if failed is None:
                raise
            failed.append(video.shown[-1] if packet is None else timestamp(packet) or 0)
            continue
        # Frames before the keyframe depend on the previous group, and were not requested.
        yield from (f for f in frames if key_pts is None or (timestamp(f) or 0) >= key_pts)


def _video_stream(container: InputContainer) -> VideoStream:
    stream = movie_stream(container)
    assert stream is not None, "the file changed since it was probed"
    return stream


def _seek_key(container: InputContainer, video: Video, first: int) -> int | None:
    """Seek to the last keyframe at or before `first`; returns its timestamp, or None if seeking does not work."""
    stream = _video_stream(container)
    target = int(video.key_pts[np.searchsorted(video.key_pts, first, side="right") - 1])
    try:
        container.seek(target, stream=stream)
        reached = next((timestamp(p) for p in packets(container, [stream]) if p.is_keyframe), None)
        container.seek(target, stream=stream)
    except av.FFmpegError:
        return None
    return reached if reached is not None and reached <= first else None


def _group_packets(
    container: InputContainer, stream: VideoStream, key_pts: int | None, end: int | None
) -> Iterator[Packet[Stream] | None]:
    """Packets from the first keyframe (without `key_pts`: from the first packet) up to `end`, then None to flush."""
    started = key_pts is None
    for packet in packets(container, [stream]):
        if end is not None and packet.is_keyframe and (timestamp(packet) or 0) >= end:
            break
        started = started or packet.is_keyframe
        if started:
            yield packet
    yield None
