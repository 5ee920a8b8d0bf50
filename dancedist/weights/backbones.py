"""Convert published AlexNet and VGG weights to safetensors with torchvision's names."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any, Literal

import numpy as np
import safetensors.torch
import torch

from dancedist.errors import FileInvalid

Layout = Literal["flax-alexnet", "flax-vgg16", "torchvision"]

# Indices of the convolutions in torchvision's `features`, in flax's order.
_FLAX: dict[str, tuple[str, tuple[int, ...]]] = {
    "flax-alexnet": ("AlexNet_0", (0, 3, 6, 8, 10)),
    "flax-vgg16": ("VGG16_0", (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)),
}
# All globals that a pickled dict of arrays needs. numpy has renamed the module of the first.
_ARRAY_PARTS: dict[tuple[str, str], Any] = {
    ("numpy.core.multiarray", "_reconstruct"): np.empty(0).__reduce__()[0],
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
}


class _ArraysOnly(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ARRAY_PARTS:
            raise FileInvalid(
                "contains a pickle that would run code", expected="numpy arrays only", got=f"{module}.{name}"
            )
        return _ARRAY_PARTS[module, name]


def convert_backbone(published: Path, layout: Layout, target: Path) -> None:
    """Convert the convolutions in a published file to safetensors in `target`, in their own precision.

    The layout `torchvision` is a state dict saved by torch; the `flax-` layouts are pickled dicts of numpy arrays
    with HWIO kernels. Raises FileInvalid if a pickle contains anything else; nothing else is unpickled.
    """
    if layout == "torchvision":
        saved = torch.load(published, map_location="cpu", weights_only=True)
        state = {name: value.contiguous() for name, value in saved.items() if name.startswith("features.")}
    else:
        state = _from_flax(published, *_FLAX[layout])
    target.write_bytes(safetensors.torch.save(state))


def _from_flax(published: Path, network: str, positions: tuple[int, ...]) -> dict[str, torch.Tensor]:
    with published.open("rb") as file:
        convolutions = _ArraysOnly(file).load()[network]
    state = {}
    for i, position in enumerate(positions):
        conv = convolutions[f"Conv_{i}"]
        kernel_OIHW = np.ascontiguousarray(conv["kernel"].transpose(3, 2, 0, 1))
        state[f"features.{position}.weight"] = torch.from_numpy(kernel_OIHW)
        state[f"features.{position}.bias"] = torch.from_numpy(conv["bias"].copy())
    return state
