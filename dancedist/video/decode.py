"""Any range of frames, exactly: from the keyframe before it, dropping by timestamp what comes too early."""

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

from dancedist.video.color import Painter
from dancedist.video.concat import Footage, spans
from dancedist.video.packets import movie_stream, open_file, packets, timestamp
from dancedist.video.probe import Video

# Damage to a frame shows in as many frames before it as B-frames may lie between two others.
HELD_FRAMES = 16
HELD_PIXELS = 150_000_000


def read_frames(
    video: Footage, start_frame: int = 0, stop_frame: int | None = None
) -> Iterator[NDArray[np.uint8] | None]:
    """Frames [start, stop) as uint8 RGB (height, width, 3), upright; exactly stop - start items.

    None stands for a frame that cannot be decoded, or that follows one before the next good keyframe. Any
    range gives the same bytes as reading it within a longer one. Memory does not grow with the length.
    """
    stop = video.frames if stop_frame is None else stop_frame
    assert 0 <= start_frame <= stop <= video.frames, (start_frame, stop, video.frames)
    parts = spans(video, start_frame, stop)
    return chain.from_iterable(_pictures(part, part.shown[first:end]) for part, first, end in parts)


def read_frame_at(video: Footage, frames: Sequence[int]) -> Iterator[NDArray[np.uint8] | None]:
    """The named frames, ascending, as `read_frames` gives them; decodes only from the keyframes they need."""
    asked = np.asarray(frames, np.int64)
    assert np.all(np.diff(asked) >= 0), "frames are asked for out of order"
    assert not len(asked) or (asked[0] >= 0 and asked[-1] < video.frames), (asked[0], asked[-1], video.frames)
    begins = 0
    for part in video.parts:
        here = asked[np.searchsorted(asked, begins) : np.searchsorted(asked, begins + part.frames)]
        yield from _pictures_at(part, part.shown[here - begins])
        begins += part.frames


def _pictures_at(video: Video, wanted: NDArray[np.int64]) -> Iterator[NDArray[np.uint8] | None]:
    groups = np.searchsorted(video.key_pts, wanted, side="right")
    for group in np.split(wanted, np.flatnonzero(np.diff(groups)) + 1):
        yield from _pictures(video, group)


def _pictures(video: Video, wanted: NDArray[np.int64]) -> Iterator[NDArray[np.uint8] | None]:
    """One picture for each of the ascending timestamps."""
    painter = Painter(video.shape)
    done = 0
    for frame in _frames(video, wanted) if len(wanted) else ():
        at = timestamp(frame)
        # Frames that did not come are absent; one that is on show for several indices comes several times.
        while done < len(wanted) and wanted[done] < at:
            yield None
            done += 1
        if done < len(wanted) and wanted[done] == at:
            picture = _painted(painter, frame)
            while done < len(wanted) and wanted[done] == at:
                yield picture
                done += 1
        if done == len(wanted):
            return
    for _ in range(done, len(wanted)):
        yield None


def _painted(painter: Painter, frame: VideoFrame) -> NDArray[np.uint8] | None:
    try:
        return painter.rgb(frame)
    except av.FFmpegError:
        return None


def _frames(video: Video, wanted: NDArray[np.int64]) -> Iterator[VideoFrame]:
    """Sound frames from the first wanted on, in order of time.

    Frame threads make what a damaged stream decodes to a matter of chance, so a damaged group (a keyframe and
    what follows it) is decoded again without them. That it is damaged is known some frames late, and as many
    are held back.
    """
    first: int | None = int(wanted[0])
    while first is not None:
        first = yield from _until_damaged(video, first)
        if first is not None:
            end = _key_after(video, first)
            yield from _sound_frames(video, first, end)
            first = end


def _until_damaged(video: Video, first: int) -> Generator[VideoFrame, None, int | None]:
    """Frames from `first` on; returns where damage may begin, or None at the end of an undamaged stream."""
    held: deque[VideoFrame] = deque()
    hold = max(2, min(HELD_FRAMES, HELD_PIXELS // (video.width * video.height)))
    try:
        for frame in _decoded(video, first, None, threads=0):
            if frame.is_corrupt:
                return first
            held.append(frame)
            if len(held) > hold:
                sound = held.popleft()
                first = max(first, (timestamp(sound) or 0) + 1)
                yield sound
    except av.FFmpegError:
        return first
    yield from held
    return None


def _sound_frames(video: Video, first: int, end: int | None) -> Iterator[VideoFrame]:
    """Frames of one damaged group: after an error the rest of it is spoilt, and left out."""
    failed: list[int] = []
    for frame in _decoded(video, first, end, threads=1, failed=failed):
        at = timestamp(frame)
        if at is None or (end is not None and at >= end):
            continue
        if frame.is_corrupt:
            failed.append(at)
        # Only where the stream had to be decoded from its start are there errors of other groups.
        if _key_after(video, at) not in {_key_after(video, f) for f in failed}:
            yield frame


def _key_after(video: Video, at: int) -> int | None:
    later = video.key_pts[np.searchsorted(video.key_pts, at, side="right") :]
    return int(later[0]) if len(later) else None


def _decoded(
    video: Video, first: int, end: int | None, *, threads: int, failed: list[int] | None = None
) -> Iterator[VideoFrame]:
    """Frames as the decoder gives them, from the keyframe at or before `first` to the one at `end` (None: the last).

    A packet that does not decode raises, or puts its timestamp into `failed` where that is given.
    """
    if np.any(video.key_pts[1:] <= first):
        with open_file(video.path) as container:
            key_at = _seek_key(container, video, first)
            if key_at is not None:
                yield from _decoded_on(container, video, key_at, end, threads, failed)
                return
    with open_file(video.path) as container:
        yield from _decoded_on(container, video, None, end, threads, failed)


def _decoded_on(
    container: InputContainer, video: Video, key_at: int | None, end: int | None, threads: int, failed: list[int] | None
) -> Iterator[VideoFrame]:
    stream = _movie(container)
    stream.thread_type, stream.thread_count = "AUTO", threads
    stream.codec_context.options = {"max_pixels": str(video.max_decoded_pixels)}
    for packet in _group_packets(container, stream, key_at, end):
        try:
            frames = stream.decode(packet)
        except av.FFmpegError:
            if failed is None:
                raise
            failed.append(video.shown[-1] if packet is None else timestamp(packet) or 0)
            continue
        # What lies before the keyframe needs frames before it, and was not asked for.
        yield from (f for f in frames if key_at is None or (timestamp(f) or 0) >= key_at)


def _movie(container: InputContainer) -> VideoStream:
    stream = movie_stream(container)
    assert stream is not None, "the file changed since it was probed"
    return stream


def _seek_key(container: InputContainer, video: Video, first: int) -> int | None:
    """Seek to the last keyframe at or before `first`; its timestamp, or None where only the start will do."""
    stream = _movie(container)
    target = int(video.key_pts[np.searchsorted(video.key_pts, first, side="right") - 1])
    try:
        container.seek(target, stream=stream)
        found = next((timestamp(p) for p in packets(container, [stream]) if p.is_keyframe), None)
        container.seek(target, stream=stream)
    except av.FFmpegError:
        return None
    return found if found is not None and found <= first else None


def _group_packets(
    container: InputContainer, stream: VideoStream, key_at: int | None, end: int | None
) -> Iterator[Packet[Stream] | None]:
    """Packets from the first keyframe (None: any) to the one at `end`, then None, which empties the decoder."""
    begun = key_at is None
    for packet in packets(container, [stream]):
        if end is not None and packet.is_keyframe and (timestamp(packet) or 0) >= end:
            break
        begun = begun or packet.is_keyframe
        if begun:
            yield packet
    yield None
