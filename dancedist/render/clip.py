"""Clips: a rendered chunk as one file, with its film and lossless frames to measure the seams to its neighbours."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from dancedist.arrays import Rgb
from dancedist.bundle.bundle import Bundle
from dancedist.errors import FileInvalid
from dancedist.files import atomic_write
from dancedist.pose.sequence import PoseSequence
from dancedist.recipe.schema import VideoRecipe
from dancedist.render.chunk import ChunkInput, render_batch
from dancedist.render.compose import FrameComposer, Picture
from dancedist.render.label import put_label
from dancedist.render.plan import GROUP_FRAMES, Chunk
from dancedist.video.encode import FilmWriter

# A third of a second: short enough to hide a seam, long enough that nothing jumps.
FADE_FRAMES = 8

# Called with the request's index, the frame's number and the frame.
OnFrame = Callable[[int, int, Rgb], None]


@dataclass(frozen=True, eq=False)
class Clip:
    """A rendered chunk: `film` is an MP4 of its frames, without sound.

    `first` and `last` are its first and last frame before encoding, uint8 RGB (H, W, 3); `after` is the frame after
    the last one, None at the end of the dance. `state`, float32 (1, 3, h, w) in [-1, 1], is what the frame after the
    last one sees.
    """

    film: bytes
    frames: int
    first: Rgb
    last: Rgb
    after: Rgb | None
    state: Tensor


@dataclass(frozen=True, eq=False)
class ClipRequest:
    """A chunk of a dance to render; `poses` are those of the whole dance, in px of the target's frame.

    `fade_from`: the state at the end of the chunk before; the first frames are then cross-faded from the continuation
    of that chunk to the chunk's own rendering. `label`: write on every frame that it is synthetic.
    """

    poses: PoseSequence
    chunk: Chunk
    encoding: VideoRecipe
    fade_from: Tensor | None = None
    label: bool = False


def ignore_frame(number: int, frame: int, picture: Rgb) -> None:
    """Ignore the frame, uint8 RGB (H, W, 3): the default of `on_frame`."""


def render_clips(
    bundle: Bundle, requests: Sequence[ClipRequest], folder: Path, on_frame: OnFrame = ignore_frame
) -> list[Clip]:
    """Render chunks of one dancer as one batch and encode each meanwhile; `folder` holds unfinished files.

    `on_frame` gets every rendered frame except the warm-up: index of its request, frame number, frame.
    """
    writers = [_ChunkWriter(bundle, request, folder / f"{i}.mp4") for i, request in enumerate(requests)]
    with ExitStack() as films:
        for writer in writers:
            films.enter_context(writer.film_writer)
        rendered = render_batch(bundle, [ChunkInput(request.poses, request.chunk) for request in requests])
        for i, t, picture in rendered:
            on_frame(i, t, writers[i].add(t, picture))
    return [writer.finish() for writer in writers]


class _ChunkWriter:
    """Compose, fade, label and encode the frames of one chunk as they arrive."""

    def __init__(self, bundle: Bundle, request: ClipRequest, path: Path) -> None:
        self.chunk, self.path = request.chunk, path
        fps, quality = request.poses.fps, request.encoding
        self.film_writer = FilmWriter(
            path, fps, crf=quality.crf, x264_preset=quality.x264_preset, group_frames=GROUP_FRAMES
        )
        self.first: Rgb | None = None
        self.last: Rgb | None = None
        self.after: Rgb | None = None
        self.state: Tensor | None = None
        self._composer, self._label = FrameComposer(bundle), request.label
        self._continuation = self._continue_chunk_before(bundle, request)

    def add(self, t: int, picture: Picture) -> Rgb:
        """Add frame `t` of the chunk or of its tail; return it as it is in the film."""
        frame = self._compose(picture)
        if t >= self.chunk.stop:
            self.after = frame if t == self.chunk.stop else self.after
            return frame
        frame = self._cross_fade(t - self.chunk.start, frame)
        self.first = frame if self.first is None else self.first
        self.last, self.state = frame, picture.state
        self.film_writer.write(frame)
        return frame

    def finish(self) -> Clip:
        """Return the clip, after all frames were added and the film was closed."""
        assert self.first is not None and self.last is not None and self.state is not None
        frames = self.chunk.stop - self.chunk.start
        return Clip(self.path.read_bytes(), frames, self.first, self.last, self.after, self.state.cpu())

    def _compose(self, picture: Picture) -> Rgb:
        frame = self._composer(picture)
        if self._label:
            put_label(frame)
        return frame

    def _continue_chunk_before(self, bundle: Bundle, request: ClipRequest) -> Iterator[Rgb]:
        """Render the chunk's first frames from the state at the end of the chunk before."""
        if request.fade_from is None:
            return
        chunk = Chunk(request.chunk.start, min(request.chunk.stop, request.chunk.start + FADE_FRAMES))
        for _, _, picture in render_batch(bundle, [ChunkInput(request.poses, chunk, request.fade_from)]):
            yield self._compose(picture)

    def _cross_fade(self, i: int, frame: Rgb) -> Rgb:
        """Blend the chunk's `i`-th frame with the continuation of the chunk before, if there is one."""
        continued = next(self._continuation, None)
        if continued is None:
            return frame
        share = (i + 1) / (FADE_FRAMES + 1)
        return np.asarray(cv2.addWeighted(frame, share, continued, 1 - share, 0), np.uint8)


def write_clip(clip: Clip, path: Path) -> None:
    """Write a clip as safetensors, atomically; frames as PNG."""
    frames = {"first": clip.first, "last": clip.last, **({} if clip.after is None else {"after": clip.after})}
    tensors = {name: torch.from_numpy(_encode_png(frame)) for name, frame in frames.items()}
    film = torch.frombuffer(bytearray(clip.film), dtype=torch.uint8)
    with atomic_write(path) as partial:
        save_file({**tensors, "film": film, "state": clip.state.contiguous()}, partial, {"frames": str(clip.frames)})


def read_clip(path: Path) -> Clip:
    """Read a clip that `write_clip` wrote. Raises FileInvalid if it is none or is damaged."""
    try:
        with safe_open(path, "pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
            frames = int((file.metadata() or {})["frames"])
        first, last = (_decode_png(tensors[name]) for name in ("first", "last"))
        after = _decode_png(tensors["after"]) if "after" in tensors else None
        return Clip(tensors["film"].numpy().tobytes(), frames, first, last, after, tensors["state"])
    except (SafetensorError, OSError, KeyError, ValueError, cv2.error) as error:
        raise FileInvalid("is not a rendered chunk", file=path, got=str(error)) from error


def _encode_png(frame: Rgb) -> NDArray[np.uint8]:
    success, png = cv2.imencode(".png", np.ascontiguousarray(frame[..., ::-1]))
    assert success
    return np.asarray(png, np.uint8)


def _decode_png(png: Tensor) -> Rgb:
    bgr = cv2.imdecode(png.numpy(), cv2.IMREAD_COLOR)
    if bgr is None:
        raise ValueError("a frame in it is not a PNG")
    return np.ascontiguousarray(bgr[..., ::-1], np.uint8)
