"""The empty stage: what stands behind the dancer, put together from frames in which each part of it is clear."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from dancedist.pose.sequence import PoseSequence
from dancedist.recipe import FigureRecipe
from dancedist.skeleton.draw import draw_figure
from dancedist.video.concat import Footage
from dancedist.video.decode import read_frame_at
from dancedist.video.letterbox import Fit

CODE_VERSION = 3
# A limb this wide, as a part of the frame's longer side, hides body, clothes and hair.
_BODY = FigureRecipe(limb_width=0.13, min_score=0.0)
# Frames in which a pixel must be clear; with fewer, a strand of hair is the median.
_MIN_CLEAR = 3
# How far round what is hidden nothing is believed, as a part of the picture's longer side.
_EDGE = 0.005
_MAX_FRAMES, _MAX_BYTES = 240, 300_000_000
_BAND_ROWS = 32

Rgb = NDArray[np.uint8]


def film_stage(video: Footage, poses: PoseSequence, frames: NDArray[np.int64]) -> Rgb:
    """uint8 (H, W, 3) of a film, from some of `frames`, ascending; `poses` in px of the film's frames."""
    count = min(len(frames), _MAX_FRAMES, max(_MIN_CLEAR, _MAX_BYTES // (video.width * video.height * 3)))
    chosen = frames[np.linspace(0, len(frames) - 1, count).round().astype(int)]
    read = zip(chosen.tolist(), read_frame_at(video, chosen.tolist()), strict=True)
    seen = [(t, frame) for t, frame in read if frame is not None]
    hidden = np.stack([body_mask(poses, t) for t, _ in seen])
    return empty_stage(np.stack([frame for _, frame in seen]), hidden)


def stage_detail(stage: Rgb, fit: Fit) -> NDArray[np.float32]:
    """What a stage loses in the network's size: float32 (H, W, 3), to be added where nothing is painted over it."""
    return np.asarray(stage.astype(np.float32) - fit.to_frame(fit.to_picture(stage)), np.float32)


def body_mask(poses: PoseSequence, frame: int) -> NDArray[np.bool_]:
    """(H, W) where the dancer of this frame may hide what is behind."""
    drawn = draw_figure(poses.xy[frame], poses.score[frame], poses.topology, poses.size, _BODY)
    return np.asarray(drawn.any(axis=2), np.bool_)


def empty_stage(frames: Rgb, hidden: NDArray[np.bool_]) -> Rgb:
    """frames (N, H, W, 3), hidden (N, H, W) -> (H, W, 3).

    The median over the frames in which a pixel is clear; where it hardly ever is, its surroundings are blurred over.
    """
    never = np.asarray((~hidden).sum(axis=0) < min(_MIN_CLEAR, len(frames)))
    stage = np.zeros(frames.shape[1:], np.uint8)
    for top in range(0, frames.shape[1], _BAND_ROWS):
        rows = slice(top, top + _BAND_ROWS)
        stage[rows] = _median_of_clear(frames[:, rows], hidden[:, rows])
    # Hair and cloth reach over the edge of what is hidden.
    reach_px = 2 * round(_EDGE * max(never.shape)) + 1
    hole = cv2.dilate(never.astype(np.uint8), cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (reach_px, reach_px)))
    if hole.all():
        return np.asarray(frames.mean(axis=0).round(), np.uint8)
    return filled_in(stage, hole.astype(np.bool_))


def _median_of_clear(frames: Rgb, hidden: NDArray[np.bool_]) -> Rgb:
    """frames (N, h, W, 3), hidden (N, h, W) -> (h, W, 3); anything where all are hidden.

    np.nanmedian takes three times as long.
    """
    # Hidden ones sort behind all colours.
    values = np.where(hidden[..., None], np.int16(256), frames).transpose(1, 2, 3, 0)
    values = np.sort(np.ascontiguousarray(values), axis=-1)
    last = np.maximum((~hidden).sum(axis=0) - 1, 0)[..., None, None]
    middle = [
        np.take_along_axis(values, np.broadcast_to(i, (*values.shape[:3], 1)), -1) for i in (last // 2, (last + 1) // 2)
    ]
    return np.asarray(((middle[0] + middle[1] + 1) // 2)[..., 0].clip(0, 255), np.uint8)


def filled_in(picture: Rgb, hole: NDArray[np.bool_]) -> Rgb:
    """uint8 (H, W, 3) with the hole (H, W) filled smoothly from all around it (pull-push, Gortler et al. 1996).

    cv2.inpaint draws streaks across a hole as large as a dancer.
    """
    assert not hole.all()
    known = (~hole).astype(np.float32)
    filled = _pull_push(picture * known[..., None], known)
    return np.where(hole[..., None], filled.round().clip(0, 255).astype(np.uint8), picture)


def _pull_push(weighted: NDArray[np.float32], weight: NDArray[np.float32]) -> NDArray[np.float32]:
    """Colours (H, W, 3) times their weights (H, W) -> colours, those of little weight from a coarser picture."""
    colours = weighted / np.maximum(weight, 1e-6)[..., None]
    if weight.min() > 0.999 or max(weight.shape) <= 2:
        return np.asarray(colours, np.float32)
    coarse = _pull_push(*(np.asarray(cv2.pyrDown(x), np.float32) for x in (weighted, weight)))
    behind = cv2.pyrUp(coarse, dstsize=weight.shape[::-1])
    return np.asarray(behind + weight[..., None].clip(0, 1) * (colours - behind), np.float32)
