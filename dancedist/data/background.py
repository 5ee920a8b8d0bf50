"""The background: what stands behind the dancer, estimated from frames in which each pixel is visible."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from dancedist.arrays import Rgb
from dancedist.pose.sequence import PoseSequence
from dancedist.recipe.schema import FigureRecipe
from dancedist.skeleton.draw import draw_figure
from dancedist.video.concat import Footage
from dancedist.video.decode import read_frame_at
from dancedist.video.letterbox import Letterbox

BACKGROUND_VERSION = 3
# A limb this wide, as a part of the frame's longer side, covers body, clothes and hair.
_BODY = FigureRecipe(limb_width=0.13, min_score=0.0)
# Frames in which a pixel must be visible; with fewer, a strand of hair becomes the median.
_MIN_VISIBLE = 3
# Margin around hidden pixels that is not trusted either, as a part of the picture's longer side.
_EDGE = 0.005
_MAX_FRAMES, _MAX_BYTES = 240, 300_000_000
_BAND_ROWS = 32


def video_background(video: Footage, poses: PoseSequence, frames: NDArray[np.int64]) -> Rgb:
    """Estimate the background of a video, uint8 RGB (H, W, 3), from a sample of `frames`.

    `frames` int64 (N,) are ascending frame indices; `poses` are in px of the video's frames.
    """
    count = min(len(frames), _MAX_FRAMES, max(_MIN_VISIBLE, _MAX_BYTES // (video.width * video.height * 3)))
    chosen = frames[np.linspace(0, len(frames) - 1, count).round().astype(int)]
    decoded = zip(chosen.tolist(), read_frame_at(video, chosen.tolist()), strict=True)
    sample = [(t, frame) for t, frame in decoded if frame is not None]
    hidden = np.stack([body_mask(poses, t) for t, _ in sample])
    return estimate_background(np.stack([frame for _, frame in sample]), hidden)


def background_detail(background: Rgb, letterbox: Letterbox) -> NDArray[np.float32]:
    """Detail of the background that is lost at the network's size: float32 (H, W, 3) in px values.

    `background` is uint8 RGB (H, W, 3). The detail is added to a rendered frame where the background shows.
    """
    return np.asarray(background.astype(np.float32) - letterbox.to_frame(letterbox.to_picture(background)), np.float32)


def body_mask(poses: PoseSequence, frame: int) -> NDArray[np.bool_]:
    """Mask, bool (H, W), of the pixels that the dancer may hide in a frame."""
    drawn = draw_figure(poses.xy[frame], poses.score[frame], poses.topology, poses.size, _BODY)
    return np.asarray(drawn.any(axis=2), np.bool_)


def estimate_background(frames: Rgb, hidden: NDArray[np.bool_]) -> Rgb:
    """Median over the frames in which a pixel is visible: uint8 RGB (N, H, W, 3), bool mask (N, H, W) -> (H, W, 3).

    Pixels that are visible in too few frames are filled from their surroundings.
    """
    rarely_visible = np.asarray((~hidden).sum(axis=0) < min(_MIN_VISIBLE, len(frames)))
    background = np.zeros(frames.shape[1:], np.uint8)
    for top in range(0, frames.shape[1], _BAND_ROWS):
        rows = slice(top, top + _BAND_ROWS)
        background[rows] = _median_of_visible(frames[:, rows], hidden[:, rows])
    # Hair and clothes extend beyond the mask.
    kernel_px = 2 * round(_EDGE * max(rarely_visible.shape)) + 1
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (kernel_px, kernel_px))
    hole = cv2.dilate(rarely_visible.astype(np.uint8), kernel)
    if hole.all():
        return np.asarray(frames.mean(axis=0).round(), np.uint8)
    return fill_hole(background, hole.astype(np.bool_))


def _median_of_visible(frames: Rgb, hidden: NDArray[np.bool_]) -> Rgb:
    """frames (N, h, W, 3), hidden (N, h, W) -> (h, W, 3); undefined where a pixel is hidden in all frames.

    np.nanmedian takes three times as long.
    """
    # 256 sorts behind all visible values.
    values = np.where(hidden[..., None], np.int16(256), frames).transpose(1, 2, 3, 0)
    values = np.sort(np.ascontiguousarray(values), axis=-1)
    last = np.maximum((~hidden).sum(axis=0) - 1, 0)[..., None, None]
    middle = [
        np.take_along_axis(values, np.broadcast_to(i, (*values.shape[:3], 1)), -1) for i in (last // 2, (last + 1) // 2)
    ]
    return np.asarray(((middle[0] + middle[1] + 1) // 2)[..., 0].clip(0, 255), np.uint8)


def fill_hole(picture: Rgb, hole: NDArray[np.bool_]) -> Rgb:
    """Fill the hole, bool mask (H, W), of a picture, uint8 RGB (H, W, 3), smoothly from its surroundings.

    Pull-push (Gortler et al. 1996). cv2.inpaint draws streaks across a hole as large as a dancer.
    """
    assert not hole.all()
    known = (~hole).astype(np.float32)
    filled = _pull_push(picture * known[..., None], known)
    return np.where(hole[..., None], filled.round().clip(0, 255).astype(np.uint8), picture)


def _pull_push(weighted: NDArray[np.float32], weight: NDArray[np.float32]) -> NDArray[np.float32]:
    """Colours (H, W, 3) times weights (H, W) -> colours; those of low weight come from a coarser picture."""
    colours = weighted / np.maximum(weight, 1e-6)[..., None]
    if weight.min() > 0.999 or max(weight.shape) <= 2:
        return np.asarray(colours, np.float32)
    coarse = _pull_push(*(np.asarray(cv2.pyrDown(x), np.float32) for x in (weighted, weight)))
    upsampled = cv2.pyrUp(coarse, dstsize=weight.shape[::-1])
    return np.asarray(upsampled + weight[..., None].clip(0, 1) * (colours - upsampled), np.float32)
