"""Poses -> pictures, frame by frame, each from the one before."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray

from dancedist.bundle import Bundle
from dancedist.figure.draw import draw_figure
from dancedist.pairs import to_pictures, to_tensor
from dancedist.pose.sequence import PoseSequence
from dancedist.render.finish import Picture
from dancedist.render.plan import Chunk


def figures(bundle: Bundle, poses: PoseSequence, chunk: Chunk) -> Iterator[NDArray[np.uint8]]:
    """Stick figures (h, w, 3) of the chunk and its warm-up; `poses` in px of the target's frame.

    A frame without a dancer shows the last figure before it.
    """
    shown = last_present(poses)
    xy = bundle.fit.points_to_picture(poses.xy)
    size, recipe = bundle.fit.picture_size, bundle.dancer.recipe.figure
    for t in range(chunk.start - chunk.warm_up, chunk.stop):
        i = int(shown[t])
        yield draw_figure(xy[i], poses.score[i], poses.topology, size, recipe)


@torch.no_grad()
def render_chunk(bundle: Bundle, poses: PoseSequence, chunk: Chunk) -> Iterator[Picture]:
    """Pictures of the chunk's frames at the network's size, the warm-up dropped.

    Recursive, in float32: y'_t = G(x_t, y'_{t-1}), y' before the first frame is zero (paper, "Temporal Smoothing").
    """
    width, height = bundle.fit.picture_size
    device = next(bundle.generator.parameters()).device
    temporal = bundle.dancer.recipe.training.temporal
    nothing = torch.zeros(1, 3, height, width, device=device)
    last = nothing
    for t, figure in enumerate(figures(bundle, poses, chunk)):
        picture, painted = bundle.generator.paint(to_tensor(figure[None]).to(device), last)
        last = picture if temporal else nothing
        if t >= chunk.warm_up:
            mask = painted[0, 0].mul(255).round().to(torch.uint8).cpu().numpy()
            yield Picture(to_pictures(picture)[0], mask)


def last_present(poses: PoseSequence) -> NDArray[np.int64]:
    """(T,) for every frame the last one up to it with a dancer (before the first: the first)."""
    present = poses.present
    assert present.any()
    frames = np.where(present, np.arange(len(present)), -1)
    last = np.maximum.accumulate(frames)
    return np.asarray(np.where(last < 0, int(np.argmax(present)), last), np.int64)
