"""Poses -> pictures, frame by frame, each from the one before."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from dancedist.bundle import Bundle
from dancedist.figure.draw import draw_figure
from dancedist.figure.window import Window, film_windows, whole
from dancedist.pairs import to_pictures, to_tensor
from dancedist.pose.sequence import PoseSequence
from dancedist.render.face import refine
from dancedist.render.finish import Picture
from dancedist.render.plan import Chunk


def figures(
    bundle: Bundle, poses: PoseSequence, chunk: Chunk, windows: Sequence[Window] | None = None
) -> Iterator[NDArray[np.uint8]]:
    """Stick figures (h, w, 3) of the chunk and its warm-up; `poses` in px of the target's frame.

    A frame without a dancer shows the last figure before it. With `windows`, one per frame of the poses, only
    those parts of the figures.
    """
    shown = last_present(poses)
    xy = bundle.fit.points_to_picture(poses.xy)
    size, recipe = bundle.fit.picture_size, bundle.dancer.recipe.figure
    for t in range(chunk.start - chunk.warm_up, chunk.stop):
        i = int(shown[t])
        window = None if windows is None else windows[t]
        yield draw_figure(xy[i], poses.score[i], poses.topology, size, recipe, window)


@torch.no_grad()
def render_chunk(bundle: Bundle, poses: PoseSequence, chunk: Chunk) -> Iterator[Picture]:
    """Pictures of the chunk's frames at the network's size, the warm-up dropped.

    Recursive, in float32: y'_t = G(x_t, y'_{t-1}), y' before the first frame is zero (paper, "Temporal Smoothing");
    the face's residual is part of what the next frame sees.
    """
    device = next(bundle.generator.parameters()).device
    size, recipe = bundle.fit.picture_size, bundle.dancer.recipe
    nothing = torch.zeros(1, 3, size[1], size[0], device=device)
    backdrop = bundle.backdrop.to(device) if bundle.backdrop is not None else None
    windows, shown = seen_windows(bundle, poses), last_present(poses)
    last = nothing
    for t, figure in enumerate(figures(bundle, poses, chunk, windows), chunk.start - chunk.warm_up):
        rows, columns = windows[t].rows, windows[t].columns
        behind = None if backdrop is None else backdrop[..., rows, columns]
        part, painted = bundle.generator.paint(to_tensor(figure[None]).to(device), last[..., rows, columns], behind)
        picture = nothing.clone() if backdrop is None else backdrop.clone()
        picture[..., rows, columns] = part
        rgb = to_pictures(picture)[0]
        face = refine(bundle, poses, int(shown[t]), picture, painted, windows[t])
        if face is not None:
            picture = face.onto_picture(picture)
        last = picture if recipe.training.temporal else nothing
        if t >= chunk.start:
            mask = np.zeros((size[1], size[0]), np.uint8)
            mask[rows, columns] = painted[0, 0].mul(255).round().to(torch.uint8).cpu().numpy()
            yield Picture(rgb, mask, face)


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
