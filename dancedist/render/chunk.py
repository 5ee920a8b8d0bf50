"""Rendering of chunks: poses -> pictures, each frame from the picture before it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dancedist.arrays import Rgb
from dancedist.bundle.bundle import Bundle
from dancedist.data.tensors import to_pictures, to_tensor
from dancedist.pose.sequence import PoseSequence
from dancedist.render.compose import Picture
from dancedist.render.face import refine
from dancedist.render.network import prepared
from dancedist.render.plan import Chunk
from dancedist.skeleton.draw import draw_figure
from dancedist.skeleton.window import Window, film_windows, full_window

# The state is rounded to this, an eighth of what 8-bit video resolves: two renderings that differ only by rounding
# errors become equal to the bit. Unrounded floats would keep them apart forever.
GRID = 2.0**-10


def figures(
    bundle: Bundle, poses: PoseSequence, chunk: Chunk, windows: Sequence[Window] | None = None
) -> Iterator[Rgb]:
    """Draw the stick figures of all frames of a chunk, uint8 RGB (h, w, 3) each, at the network's size.

    `poses` in px of the target's frame. A frame without a dancer repeats the last figure before it. `windows`, one
    per frame of the poses, limits each figure to its window.
    """
    pose_of_frame = last_present(poses)
    xy = bundle.letterbox.points_to_picture(poses.xy)
    size, recipe = bundle.letterbox.picture_size, bundle.dancer.recipe.figure
    for t in chunk.frames:
        i = int(pose_of_frame[t])
        window = None if windows is None else windows[t]
        yield draw_figure(xy[i], poses.score[i], poses.topology, size, recipe, window)


@dataclass(frozen=True, eq=False)
class ChunkInput:
    """A chunk of a dance to render; `poses` are those of the whole dance, in px of the target's frame.

    `state_before`: float32 (1, 3, h, w) in [-1, 1], the state after the frame before the chunk's first, if that frame
    is already rendered; None for a cold start.
    """

    poses: PoseSequence
    chunk: Chunk
    state_before: Tensor | None = None


def render_chunk(bundle: Bundle, poses: PoseSequence, chunk: Chunk) -> Iterator[Picture]:
    """Render the frames and the tail of one chunk at the network's size; the warm-up is dropped."""
    return (picture for _, _, picture in render_batch(bundle, [ChunkInput(poses, chunk)]))


@torch.no_grad()
def render_batch(bundle: Bundle, inputs: Sequence[ChunkInput]) -> Iterator[tuple[int, int, Picture]]:
    """Render several chunks as one batch; yields (index of the input, frame, picture), each input's frames in order.

    Recursive: y'_t = G(x_t, y'_{t-1}), and y' before the first frame is zero (paper, "Temporal Smoothing"). Float32,
    unless the recipe's [render] says otherwise. The face's residual is part of the state that the next frame sees,
    and the state is rounded to GRID. So the frames of one chunk cannot be batched, but one frame of each chunk can.
    """
    bundle = prepared(bundle)
    streams = {i: _StreamState(bundle, chunk_input) for i, chunk_input in enumerate(inputs)}
    while streams:
        by_size: dict[tuple[int, int], list[int]] = {}
        for i, stream in streams.items():
            by_size.setdefault((stream.window.width, stream.window.height), []).append(i)
        for indices in by_size.values():
            pictures = _next_frames(bundle, [streams[i] for i in indices])
            for i, picture in zip(indices, pictures, strict=True):
                stream = streams[i]
                if stream.frame >= stream.chunk.start:
                    yield i, stream.frame, picture
                stream.advance(picture)
        streams = {i: stream for i, stream in streams.items() if stream.frame < stream.chunk.frames.stop}


class _StreamState:
    """Progress of one chunk: `frame` is the next one to render, `last` the state (1, 3, h, w) that it sees."""

    def __init__(self, bundle: Bundle, chunk_input: ChunkInput) -> None:
        width, height = bundle.letterbox.picture_size
        self.poses, self.chunk = chunk_input.poses, chunk_input.chunk
        self.windows, self.pose_of_frame = input_windows(bundle, chunk_input.poses), last_present(chunk_input.poses)
        self.figures = figures(bundle, chunk_input.poses, chunk_input.chunk, self.windows)
        self.frame = chunk_input.chunk.frames.start
        self.zeros = torch.zeros(1, 3, height, width, device=bundle.device)
        before = chunk_input.state_before
        self.last = self.zeros if before is None else before.to(bundle.device)
        self.temporal = bundle.dancer.recipe.training.temporal

    @property
    def window(self) -> Window:
        """What the network sees of the next frame."""
        return self.windows[self.frame]

    def advance(self, picture: Picture) -> None:
        """Go to the next frame, which sees this picture."""
        self.last = picture.state if self.temporal else self.zeros
        self.frame += 1


def _next_frames(bundle: Bundle, streams: Sequence[_StreamState]) -> list[Picture]:
    """Render the next frame of each stream as one batch; their windows have one size."""
    windows = [stream.window for stream in streams]
    background = None if bundle.network_background is None else bundle.network_background.to(bundle.device)
    figures_B3HW = to_tensor(np.stack([next(stream.figures) for stream in streams])).to(bundle.device)
    last = torch.cat([_crop(stream.last, w) for stream, w in zip(streams, windows, strict=True)])
    background_crops = None if background is None else torch.cat([_crop(background, w) for w in windows])
    outputs, alpha = bundle.generator.paint(figures_B3HW, last, background_crops)
    pictures = []
    for i, (stream, w) in enumerate(zip(streams, windows, strict=True)):
        full = (stream.zeros if background is None else background).clone()
        full[..., w.rows, w.columns] = outputs[i]
        rgb = to_pictures(full)[0]
        mask = np.zeros(rgb.shape[:2], np.uint8)
        mask[w.rows, w.columns] = alpha[i, 0].mul(255).round().to(torch.uint8).cpu().numpy()
        pose = int(stream.pose_of_frame[stream.frame])
        face = refine(bundle, stream.poses, pose, full, alpha[i : i + 1], w)
        state = full if face is None else face.add_to_picture(full)
        pictures.append(Picture(rgb, mask, (state / GRID).round() * GRID, face))
    return pictures


def _crop(picture_13HW: Tensor, window: Window) -> Tensor:
    return picture_13HW[..., window.rows, window.columns]


def input_windows(bundle: Bundle, poses: PoseSequence) -> list[Window]:
    """What the network sees of each frame. Computed from the whole dance, so that it does not depend on the chunks."""
    size, recipe = bundle.letterbox.picture_size, bundle.dancer.recipe
    if not recipe.generator.window:
        return [full_window(size)] * len(poses)
    xy = bundle.letterbox.points_to_picture(poses.xy)
    return film_windows(replace(poses, xy=xy, size=size), size, recipe.multiple, recipe.figure.min_score)


def last_present(poses: PoseSequence) -> NDArray[np.int64]:
    """For every frame the index of the last frame up to it that has a dancer, int64 (T,).

    Frames before the first dancer get the first frame with one. At least one frame must have a dancer.
    """
    present = poses.present
    assert present.any()
    frames = np.where(present, np.arange(len(present)), -1)
    last = np.maximum.accumulate(frames)
    return np.asarray(np.where(last < 0, int(np.argmax(present)), last), np.int64)
