"""The empty stage: what stands behind the dancer, put together from frames in which each part of it is clear."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from dancedist.figure.draw import draw_figure
from dancedist.pose.sequence import PoseSequence
from dancedist.recipe import FigureRecipe
from dancedist.video.decode import read_frame_at
from dancedist.video.probe import Video

CODE_VERSION = 1
# A limb this wide, as a part of the frame's longer side, hides body, clothes and hair.
_BODY = FigureRecipe(limb_width=0.13, min_score=0.0)
_MIN_CLEAR = 3
_MAX_FRAMES, _MAX_BYTES = 120, 300_000_000
_BAND_ROWS = 32

Rgb = NDArray[np.uint8]


def film_stage(video: Video, poses: PoseSequence, frames: NDArray[np.int64]) -> Rgb:
    """uint8 (H, W, 3) of a film, from some of `frames`, ascending; `poses` in px of the film's frames."""
    count = min(len(frames), _MAX_FRAMES, max(_MIN_CLEAR, _MAX_BYTES // (video.width * video.height * 3)))
    chosen = frames[np.linspace(0, len(frames) - 1, count).round().astype(int)]
    read = zip(chosen.tolist(), read_frame_at(video, chosen.tolist()), strict=True)
    seen = [(t, frame) for t, frame in read if frame is not None]
    hidden = np.stack([body_mask(poses, t) for t, _ in seen])
    return empty_stage(np.stack([frame for _, frame in seen]), hidden)


def body_mask(poses: PoseSequence, frame: int) -> NDArray[np.bool_]:
    """(H, W) where the dancer of this frame may hide what is behind."""
    drawn = draw_figure(poses.xy[frame], poses.score[frame], poses.topology, poses.size, _BODY)
    return np.asarray(drawn.any(axis=2), np.bool_)


def empty_stage(frames: Rgb, hidden: NDArray[np.bool_]) -> Rgb:
    """frames (N, H, W, 3), hidden (N, H, W) -> (H, W, 3).

    The median over the frames in which a pixel is clear; what never is, is painted in from its edge.
    """
    never = np.asarray(hidden.sum(axis=0) > len(frames) - min(_MIN_CLEAR, len(frames)))
    stage = np.zeros(frames.shape[1:], np.uint8)
    for top in range(0, frames.shape[1], _BAND_ROWS):
        rows = slice(top, top + _BAND_ROWS)
        clear = np.where(hidden[:, rows, :, None], np.nan, frames[:, rows].astype(np.float32))
        clear[:, never[rows]] = 0
        stage[rows] = np.nanmedian(clear, axis=0).round()
    return np.asarray(cv2.inpaint(stage, never.astype(np.uint8), 3, cv2.INPAINT_TELEA), np.uint8)
