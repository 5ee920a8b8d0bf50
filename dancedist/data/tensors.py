"""Pictures as tensors in [-1, 1], and back."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dancedist.arrays import Box
from dancedist.skeleton.crop import crop_box


def to_tensor(pictures: NDArray[np.uint8]) -> Tensor:
    """uint8 RGB (N, H, W, 3) -> float32 (N, 3, H, W) in [-1, 1]."""
    return (
        torch.from_numpy(np.ascontiguousarray(pictures)).permute(0, 3, 1, 2).float().div_(127.5).sub_(1.0).contiguous()
    )


def detail_crops(detail: NDArray[np.float32], boxes: Sequence[Box], pixels: int) -> Tensor:
    """Squares of background detail, float32 (N, 3, S, S), as differences on the scale [-1, 1].

    `detail` is float32 (H, W, 3) in px values, `boxes` are in its px, `pixels` is S.
    """
    return torch.from_numpy(np.stack([crop_box(detail, box, pixels) for box in boxes])).permute(0, 3, 1, 2) / 127.5


def to_pictures(x_N3HW: Tensor) -> NDArray[np.uint8]:
    """float (N, 3, H, W) in [-1, 1] -> uint8 RGB (N, H, W, 3)."""
    scaled = x_N3HW.detach().float().clamp(-1, 1).add(1).mul(127.5).round().to(torch.uint8)
    return np.asarray(scaled.permute(0, 2, 3, 1).contiguous().cpu().numpy(), np.uint8)
