"""Poses -> pictures, frame by frame, each from the one before."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dancedist.bundle.bundle import Bundle
from dancedist.data.pairs import to_pictures, to_tensor
from dancedist.pose.sequence import PoseSequence
from dancedist.render.face import refine
from dancedist.render.finish import Picture
from dancedist.render.network import prepared
from dancedist.render.plan import Chunk
from dancedist.skeleton.draw import draw_figure
from dancedist.skeleton.window import Window, film_windows, whole

# What a frame hands on is rounded to this, an eighth of what a film can show: two renderings that differ by roundings
# alone become one and the same, where floats would keep them apart for good.
GRID = 2.0**-10


def figures(
    bundle: Bundle, poses: PoseSequence, chunk: Chunk, windows: Sequence[Window] | None = None
) -> Iterator[NDArray[np.uint8]]:
    """Stick figures (h, w, 3) of all that is rendered for the chunk; `poses` in px of the target's frame.

    A frame without a dancer shows the last figure before it. With `windows`, one per frame of the poses, only
    those parts of the figures.
    """
    shown = last_present(poses)
    xy = bundle.fit.points_to_picture(poses.xy)
    size, recipe = bundle.fit.picture_size, bundle.dancer.recipe.figure
    for t in chunk.frames:
        i = int(shown[t])
        window = None if windows is None else windows[t]
        yield draw_figure(xy[i], poses.score[i], poses.topology, size, recipe, window)


@dataclass(frozen=True, eq=False)
class Part:
    """A chunk of a dance; `poses` are all of the dance's, in px of the target's frame.

    `begin_with`: the picture (1, 3, h, w) before the chunk's first frame, where another has rendered it.
    """

    poses: PoseSequence
    chunk: Chunk
    begin_with: Tensor | None = None


def render_chunk(bundle: Bundle, poses: PoseSequence, chunk: Chunk) -> Iterator[Picture]:
    """Pictures of the chunk's frames, and of its tail, at the network's size; the warm-up is dropped."""
    return (picture for _, _, picture in render_together(bundle, [Part(poses, chunk)]))


@torch.no_grad()
def render_together(bundle: Bundle, parts: Sequence[Part]) -> Iterator[tuple[int, int, Picture]]:
    """Pictures of several chunks, as (number of the part, frame, picture): each in order, all in lockstep.

    Recursive: y'_t = G(x_t, y'_{t-1}), y' before the first frame is zero (paper, "Temporal Smoothing"), in float32
    where [render] says nothing else; the face's residual is part of what the next frame sees, and that is rounded to
    GRID. So time cannot be batched, but one frame of each can.
    """
    bundle = prepared(bundle)
    strands = {i: _Strand(bundle, part) for i, part in enumerate(parts)}
    while strands:
        sizes: dict[tuple[int, int], list[int]] = {}
        for i, strand in strands.items():
            sizes.setdefault((strand.window.width, strand.window.height), []).append(i)
        for alike in sizes.values():
            pictures = _next_frames(bundle, [strands[i] for i in alike])
            for i, picture in zip(alike, pictures, strict=True):
                strand = strands[i]
                if strand.frame >= strand.chunk.start:
                    yield i, strand.frame, picture
                strand.went_on(picture)
        strands = {i: strand for i, strand in strands.items() if strand.frame < strand.chunk.frames.stop}


class _Strand:
    """A part, as far as it is rendered: `frame` is the next one, `last` the picture that it sees."""

    def __init__(self, bundle: Bundle, part: Part) -> None:
        width, height = bundle.fit.picture_size
        self.poses, self.chunk = part.poses, part.chunk
        self.windows, self.shown = seen_windows(bundle, part.poses), last_present(part.poses)
        self.figures = figures(bundle, part.poses, part.chunk, self.windows)
        self.frame = part.chunk.frames.start
        self.nothing = torch.zeros(1, 3, height, width, device=bundle.device)
        self.last = self.nothing if part.begin_with is None else part.begin_with.to(bundle.device)
        self.temporal = bundle.dancer.recipe.training.temporal

    @property
    def window(self) -> Window:
        return self.windows[self.frame]

    def went_on(self, picture: Picture) -> None:
        """To the next frame, which sees this picture."""
        self.last = picture.whole if self.temporal else self.nothing
        self.frame += 1


def _next_frames(bundle: Bundle, strands: Sequence[_Strand]) -> list[Picture]:
    """The next frame of each, as one batch; their windows are of one size."""
    windows = [strand.window for strand in strands]
    backdrop = None if bundle.backdrop is None else bundle.backdrop.to(bundle.device)
    figures_B3HW = to_tensor(np.stack([next(strand.figures) for strand in strands])).to(bundle.device)
    last = torch.cat([_seen(strand.last, w) for strand, w in zip(strands, windows, strict=True)])
    behind = None if backdrop is None else torch.cat([_seen(backdrop, w) for w in windows])
    parts, painted = bundle.generator.paint(figures_B3HW, last, behind)
    pictures = []
    for i, (strand, w) in enumerate(zip(strands, windows, strict=True)):
        whole = (strand.nothing if backdrop is None else backdrop).clone()
        whole[..., w.rows, w.columns] = parts[i]
        rgb = to_pictures(whole)[0]
        mask = np.zeros(rgb.shape[:2], np.uint8)
        mask[w.rows, w.columns] = painted[i, 0].mul(255).round().to(torch.uint8).cpu().numpy()
        face = refine(bundle, strand.poses, int(strand.shown[strand.frame]), whole, painted[i : i + 1], w)
        handed_on = whole if face is None else face.onto_picture(whole)
        pictures.append(Picture(rgb, mask, (handed_on / GRID).round() * GRID, face))
    return pictures


def _seen(picture_13HW: Tensor, window: Window) -> Tensor:
    return picture_13HW[..., window.rows, window.columns]


def seen_windows(bundle: Bundle, poses: PoseSequence) -> list[Window]:
    """What the network sees of each frame; told from all of the poses, whatever the chunk."""
    size, recipe = bundle.fit.picture_size, bundle.dancer.recipe
    if not recipe.generator.window:
        return [whole(size)] * len(poses)
    xy = bundle.fit.points_to_picture(poses.xy)
    return film_windows(replace(poses, xy=xy, size=size), size, recipe.multiple, recipe.figure.min_score)


def last_present(poses: PoseSequence) -> NDArray[np.int64]:
    """(T,) for every frame the last one up to it with a dancer (before the first: the first)."""
    present = poses.present
    assert present.any()
    frames = np.where(present, np.arange(len(present)), -1)
    last = np.maximum.accumulate(frames)
    return np.asarray(np.where(last < 0, int(np.argmax(present)), last), np.int64)
