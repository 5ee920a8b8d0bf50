"""LPIPS, the learned perceptual distance of two pictures (Zhang et al. 2018)."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from dancedist.arrays import Rgb

# AlexNet's last features are empty for smaller pictures.
MIN_LPIPS_PX = 64
BATCH_PICTURES = 16


class Lpips:
    """Learned perceptual distance (Zhang et al. 2018, v0.1 heads): AlexNet features, torchmetrics' linear heads.

    `backbone`: AlexNet's convolutions by torchvision's names ("features.0.weight", ...), any float type:
    `weights.load_backbone("lpips-alexnet")`. Pictures are compared at their own size. If the shorter side is under
    64 px, both are enlarged (bilinear) until it has 64, the least that AlexNet needs.
    """

    def __init__(self, backbone: Mapping[str, Tensor], device: str = "cpu") -> None:
        self.device = device
        self.net = _alexnet(backbone).to(device)
        self.heads = [head.to(device) for head in _linear_heads()]
        self.shift = torch.tensor([-0.030, -0.088, -0.188], device=device).view(1, 3, 1, 1)
        self.scale = torch.tensor([0.458, 0.448, 0.450], device=device).view(1, 3, 1, 1)

    def __call__(self, a: Rgb, b: Rgb) -> NDArray[np.float64]:
        """Distance per picture: uint8 RGB (T, H, W, 3) twice -> float64 (T,), 0 for equal pictures."""
        assert a.shape == b.shape and a.ndim == 4, (a.shape, b.shape)
        distances = [np.empty(0)]
        for start in range(0, len(a), BATCH_PICTURES):
            batch = slice(start, start + BATCH_PICTURES)
            features, count = self.features(np.concatenate([a[batch], b[batch]])), len(a[batch])
            distances.append(self.between(features, range(count), range(count, 2 * count)))
        return np.concatenate(distances)

    @torch.inference_mode()
    def features(self, pictures: Rgb, at_least_px: int = MIN_LPIPS_PX) -> list[Tensor]:
        """Features of five layers: uint8 RGB (N, H, W, 3) -> float32 (N, C, h, w) each, every position of unit length.

        Pictures with a shorter side under `at_least_px` are enlarged to it first.
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
        """Distances within one batch of `features` (float32 (N, C, h, w) per layer, as `features()` returns them).

        `a` and `b` are indexes of pictures in the batch; -> float64 (len(a),), the distance of each of `a` to its `b`.
        """
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
    # Located without importing torchmetrics, which takes seconds.
    package = find_spec("torchmetrics")
    assert package is not None and package.submodule_search_locations
    file = Path(package.submodule_search_locations[0]) / "functional/image/lpips_models/alex.pth"
    heads = torch.load(file, map_location="cpu", weights_only=True)
    return [heads[f"lin{i}.model.1.weight"] for i in range(5)]
