"""How alike two pictures are: SSIM, PSNR and LPIPS, on crops that are the same for both sides.

The convention for crops, as in the paper: the box is told from the *true* pose (`figure.face.body_box` with its
margin, `figure.face.face_box`), rounded outwards to whole pixels, cut at the picture's edge, and cut from the
true and the generated frame alike, at their own size.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from math import floor
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from dancedist.skeleton.face import Box

Rgb = NDArray[np.uint8]
# SSIM's window; nothing can be said about a crop that is smaller.
MIN_CROP_PX = 11
# Below it AlexNet's last features are empty.
MIN_LPIPS_PX = 64
BATCH_PICTURES = 16
PSNR_CAP_DB = 100.0


class Frames(Protocol):
    """Pictures of one size, uint8 RGB (H, W, 3), by number: an array (T, H, W, 3), a list, or read on demand."""

    def __len__(self) -> int: ...

    def __getitem__(self, frame: int, /) -> Rgb: ...

    def __iter__(self) -> Iterator[Rgb]: ...


def window(box: Box | None, height: int, width: int) -> tuple[slice, slice] | None:
    """Rows and columns of the whole pixels that `box` (x0, y0, x1, y1) px touches inside the picture.

    None where there is no box, or less than 11 px a side of it is inside.
    """
    if box is None or not np.isfinite(box).all():
        return None
    x0, y0 = max(0, floor(box[0])), max(0, floor(box[1]))
    x1, y1 = min(width, -floor(-box[2])), min(height, -floor(-box[3]))
    return (slice(y0, y1), slice(x0, x1)) if min(x1 - x0, y1 - y0) >= MIN_CROP_PX else None


def psnr(a: Rgb, b: Rgb) -> NDArray[np.float64]:
    """Peak signal-to-noise ratio per picture, dB: uint8 (T, H, W, 3) twice -> (T,). The data range is 255.

    Capped at 100 dB, which is what equal pictures get, so that a mean stays finite.
    """
    assert a.shape == b.shape and a.ndim == 4, (a.shape, b.shape)
    squares = [np.square(x.astype(np.float32) - y).mean(dtype=np.float64) for x, y in zip(a, b, strict=True)]
    with np.errstate(divide="ignore"):
        decibels = 10 * np.log10(255.0**2 / np.array(squares, np.float64))
    return np.asarray(np.minimum(decibels, PSNR_CAP_DB), np.float64)


def ssim(a: Rgb, b: Rgb) -> NDArray[np.float64]:
    """Structural similarity per picture (Wang et al. 2004): uint8 (T, H, W, 3) twice -> (T,).

    Gaussian window of 11 px and sigma 1.5, data range 255, edges mirrored, mean over pixels and channels: equal
    to torchmetrics' `structural_similarity_index_measure`, ten times as fast (its window is not separated).
    """
    assert a.shape == b.shape and a.ndim == 4 and min(a.shape[1:3]) >= MIN_CROP_PX, (a.shape, b.shape)
    return np.array([_ssim(x, y) for x, y in zip(a, b, strict=True)], np.float64)


def _ssim(a: Rgb, b: Rgb) -> float:
    x, y = a.astype(np.float32), b.astype(np.float32)
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    mean_x, mean_y = _blur(x), _blur(y)
    var_x = np.maximum(_blur(x * x) - mean_x * mean_x, 0)
    var_y = np.maximum(_blur(y * y) - mean_y * mean_y, 0)
    covariance = _blur(x * y) - mean_x * mean_y
    upper = (2 * mean_x * mean_y + c1) * (2 * covariance + c2)
    lower = (mean_x * mean_x + mean_y * mean_y + c1) * (var_x + var_y + c2)
    return float((upper / lower).mean(dtype=np.float64))


def _blur(x: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(cv2.GaussianBlur(x, (11, 11), 1.5, borderType=cv2.BORDER_REFLECT_101), np.float32)


class Lpips:
    """Learned perceptual distance (Zhang et al. 2018, v0.1 heads): AlexNet features, torchmetrics' linear heads.

    `backbone`: AlexNet's convolutions by torchvision's names ("features.0.weight", ...), any float type:
    `weights.load_backbone("lpips-alexnet")`. Pictures are compared at their own size; where the shorter side is
    under 64 px both are enlarged (bilinear) until it has 64, as AlexNet sees nothing in less.
    """

    def __init__(self, backbone: Mapping[str, Tensor], device: str = "cpu") -> None:
        self.device = device
        self.net = _alexnet(backbone).to(device)
        self.heads = [head.to(device) for head in _linear_heads()]
        self.shift = torch.tensor([-0.030, -0.088, -0.188], device=device).view(1, 3, 1, 1)
        self.scale = torch.tensor([0.458, 0.448, 0.450], device=device).view(1, 3, 1, 1)

    def __call__(self, a: Rgb, b: Rgb) -> NDArray[np.float64]:
        """uint8 (T, H, W, 3) twice -> (T,), 0 for equal pictures."""
        assert a.shape == b.shape and a.ndim == 4, (a.shape, b.shape)
        parts = [np.empty(0)]
        for start in range(0, len(a), BATCH_PICTURES):
            one, other = a[start : start + BATCH_PICTURES], b[start : start + BATCH_PICTURES]
            features, count = self.features(np.concatenate([one, other])), len(one)
            parts.append(self.between(features, range(count), range(count, 2 * count)))
        return np.concatenate(parts)

    @torch.inference_mode()
    def features(self, pictures: Rgb, at_least_px: int = MIN_LPIPS_PX) -> list[Tensor]:
        """uint8 (N, H, W, 3) -> the five layers' (N, C, h, w), each position of unit length.

        Pictures whose shorter side is less are enlarged so far first.
        """
        x = torch.from_numpy(np.ascontiguousarray(pictures)).to(self.device).permute(0, 3, 1, 2).float() / 127.5 - 1
        if (shorter := min(x.shape[2:])) < at_least_px:
            size = [max(at_least_px, round(side * at_least_px / shorter)) for side in x.shape[2:]]
            x = F.interpolate(x, size=size, mode="bilinear", align_corners=False)
        x, layers = (x - self.shift) / self.scale, []
        for layer in self.net:
            x = layer(x)
            if isinstance(layer, nn.ReLU):
                layers.append(x / (x.square().sum(1, keepdim=True) + 1e-8).sqrt())
        return layers

    @torch.inference_mode()
    def between(self, features: list[Tensor], a: range | list[int], b: range | list[int]) -> NDArray[np.float64]:
        """Distances (len(a),) of the pictures numbered `a` to those numbered `b` in one batch of `features`."""
        sums = torch.zeros(len(a), device=self.device)
        for layer, head in zip(features, self.heads, strict=True):
            squares = (layer[list(a)] - layer[list(b)]).square()
            sums += F.conv2d(squares, head).mean((1, 2, 3))
        return np.asarray(sums.cpu().numpy(), np.float64)


def _alexnet(backbone: Mapping[str, Tensor]) -> nn.Sequential:
    net = nn.Sequential(
        *(nn.Conv2d(3, 64, 11, stride=4, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2)),
        *(nn.Conv2d(64, 192, 5, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2)),
        *(nn.Conv2d(192, 384, 3, padding=1), nn.ReLU()),
        *(nn.Conv2d(384, 256, 3, padding=1), nn.ReLU()),
        *(nn.Conv2d(256, 256, 3, padding=1), nn.ReLU()),
    )
    net.load_state_dict({name.removeprefix("features."): value.float() for name, value in backbone.items()})
    return net.eval().requires_grad_(False)


def _linear_heads() -> list[Tensor]:
    # Found without importing torchmetrics, which takes seconds.
    package = find_spec("torchmetrics")
    assert package is not None and package.submodule_search_locations
    file = Path(package.submodule_search_locations[0]) / "functional/image/lpips_models/alex.pth"
    heads = torch.load(file, map_location="cpu", weights_only=True)
    return [heads[f"lin{i}.model.1.weight"] for i in range(5)]
