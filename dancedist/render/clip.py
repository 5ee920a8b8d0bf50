"""A rendered chunk as one file: its film, and what the seams to its neighbours are measured on, losslessly."""

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

from dancedist.bundle.bundle import Bundle
from dancedist.errors import FileInvalid
from dancedist.files import published
from dancedist.pose.sequence import PoseSequence
from dancedist.recipe import VideoRecipe
from dancedist.render.chunk import Part, render_together
from dancedist.render.finish import Finish, Picture
from dancedist.render.label import put_label
from dancedist.render.plan import GROUP_FRAMES, Chunk
from dancedist.video.encode import FilmWriter

# A third of a second: short enough to save a seam, long enough that nothing jumps.
FADE_FRAMES = 8

Rgb = NDArray[np.uint8]
Watch = Callable[[int, int, Rgb], None]


@dataclass(frozen=True, eq=False)
class Clip:
    """A rendered chunk: `film` is an MP4 of its frames, without sound.

    `first` and `last` are frames of it before they were encoded, uint8 (H, W, 3), and `after` the one after them,
    None at the film's end. `state` (1, 3, h, w) is what the frame after the last one sees.
    """

    film: bytes
    frames: int
    first: Rgb
    last: Rgb
    after: Rgb | None
    state: Tensor


@dataclass(frozen=True, eq=False)
class Wish:
    """A chunk of a dance that is to be rendered; `poses` are all of the dance's, in px of the target's frame.

    `fade_from`: the state that the chunk before it ended with. Its first frames then pass from what that one would
    have gone on with to its own. `label`: say on every frame that it is synthetic.
    """

    poses: PoseSequence
    chunk: Chunk
    encoding: VideoRecipe
    fade_from: Tensor | None = None
    label: bool = False


def unwatched(number: int, frame: int, picture: Rgb) -> None:
    """For renderings that nobody looks at."""


def render_clips(bundle: Bundle, wishes: Sequence[Wish], folder: Path, watch: Watch = unwatched) -> list[Clip]:
    """Render chunks of one dancer in lockstep, each encoded meanwhile; `folder` is for what is unfinished.

    `watch` is shown every frame that is rendered, but for the warm-up: number of its wish, frame, picture (H, W, 3).
    """
    tapes = [_Tape(bundle, wish, folder / f"{i}.mp4") for i, wish in enumerate(wishes)]
    with ExitStack() as films:
        for tape in tapes:
            films.enter_context(tape.writer)
        rendered = render_together(bundle, [Part(wish.poses, wish.chunk) for wish in wishes])
        for i, t, picture in rendered:
            watch(i, t, tapes[i].take(t, picture))
    return [tape.clip() for tape in tapes]


class _Tape:
    """What becomes of one chunk's frames as they come."""

    def __init__(self, bundle: Bundle, wish: Wish, path: Path) -> None:
        self.chunk, self.path = wish.chunk, path
        fps, quality = wish.poses.fps, wish.encoding
        self.writer = FilmWriter(path, fps, crf=quality.crf, speed=quality.speed, group_frames=GROUP_FRAMES)
        self.first: Rgb | None = None
        self.last: Rgb | None = None
        self.after: Rgb | None = None
        self.state: Tensor | None = None
        self._finish, self._label = Finish(bundle), wish.label
        self._fading = self._gone_on(bundle, wish)

    def take(self, t: int, picture: Picture) -> Rgb:
        """A frame of the chunk or of its tail, as it is in the film."""
        frame = self._shown(picture)
        if t >= self.chunk.stop:
            self.after = frame if t == self.chunk.stop else self.after
            return frame
        frame = self._faded(t - self.chunk.start, frame)
        self.first = frame if self.first is None else self.first
        self.last, self.state = frame, picture.whole
        self.writer.write(frame)
        return frame

    def clip(self) -> Clip:
        """When all have come."""
        assert self.first is not None and self.last is not None and self.state is not None
        frames = self.chunk.stop - self.chunk.start
        return Clip(self.path.read_bytes(), frames, self.first, self.last, self.after, self.state.cpu())

    def _shown(self, picture: Picture) -> Rgb:
        frame = self._finish(picture)
        if self._label:
            put_label(frame)
        return frame

    def _gone_on(self, bundle: Bundle, wish: Wish) -> Iterator[Rgb]:
        """The chunk's first frames, as the one before it would have gone on."""
        if wish.fade_from is None:
            return
        chunk = Chunk(wish.chunk.start, min(wish.chunk.stop, wish.chunk.start + FADE_FRAMES))
        for _, _, picture in render_together(bundle, [Part(wish.poses, chunk, wish.fade_from)]):
            yield self._shown(picture)

    def _faded(self, i: int, frame: Rgb) -> Rgb:
        before = next(self._fading, None)
        if before is None:
            return frame
        share = (i + 1) / (FADE_FRAMES + 1)
        return np.asarray(cv2.addWeighted(frame, share, before, 1 - share, 0), np.uint8)


def write_clip(clip: Clip, path: Path) -> None:
    """As safetensors, whole or not at all; pictures as PNG."""
    pictures = {"first": clip.first, "last": clip.last, **({} if clip.after is None else {"after": clip.after})}
    tensors = {name: torch.from_numpy(_png(picture)) for name, picture in pictures.items()}
    film = torch.frombuffer(bytearray(clip.film), dtype=torch.uint8)
    with published(path) as partial:
        save_file({**tensors, "film": film, "state": clip.state.contiguous()}, partial, {"frames": str(clip.frames)})


def read_clip(path: Path) -> Clip:
    """Raises FileInvalid."""
    try:
        with safe_open(path, "pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no mapping
            frames = int((file.metadata() or {})["frames"])
        first, last = (_picture(tensors[name]) for name in ("first", "last"))
        after = _picture(tensors["after"]) if "after" in tensors else None
        return Clip(tensors["film"].numpy().tobytes(), frames, first, last, after, tensors["state"])
    except (SafetensorError, OSError, KeyError, ValueError, cv2.error) as error:
        raise FileInvalid("is no rendered chunk", file=path, got=str(error)) from error


def _png(picture: Rgb) -> NDArray[np.uint8]:
    whole, png = cv2.imencode(".png", np.ascontiguousarray(picture[..., ::-1]))
    assert whole
    return np.asarray(png, np.uint8)


def _picture(png: Tensor) -> Rgb:
    shown = cv2.imdecode(png.numpy(), cv2.IMREAD_COLOR)
    if shown is None:
        raise ValueError("a picture in it is none")
    return np.ascontiguousarray(shown[..., ::-1], np.uint8)
