"""A bundle: a trained dancer on disk.

Files: `generator.safetensors`, `face.safetensors`, `dancer.json` (the record), `stage.png` (the background),
`sample.png` and `README.md` (the model card).
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from dancedist.bundle.card import card
from dancedist.bundle.record import FORMAT, Dancer
from dancedist.data.background import background_detail
from dancedist.data.tensors import to_tensor
from dancedist.errors import FileInvalid
from dancedist.files import atomic_write, atomic_write_folder, file_sha256
from dancedist.models.build import build_generator
from dancedist.models.face import FaceGenerator, build_face_generator
from dancedist.models.generator import Generator
from dancedist.pose.topology import TOPOLOGIES, Topology
from dancedist.retarget.stats import RetargetStats
from dancedist.video.letterbox import Letterbox


@dataclass(frozen=True, eq=False)
class Bundle:
    """A loaded dancer: the record, and the generators in evaluation mode, on the CPU.

    `face` refines the face; None if the recipe had no face stage or no face was visible. `background` is uint8 RGB
    (H, W, 3) in the size of the target's frames; None if the recipe does not use one.
    """

    dancer: Dancer
    generator: Generator
    face: FaceGenerator | None = None
    background: NDArray[np.uint8] | None = None

    @property
    def letterbox(self) -> Letterbox:
        """How the target's frames are placed in the network's picture."""
        return self.dancer.letterbox

    @property
    def device(self) -> torch.device:
        """Device of the generator."""
        return next(self.generator.parameters()).device

    @cached_property
    def network_background(self) -> Tensor | None:
        """The background at the network's size: float32 (1, 3, h, w) in [-1, 1]."""
        return None if self.background is None else to_tensor(self.letterbox.to_picture(self.background)[None])

    @cached_property
    def detail(self) -> NDArray[np.float32] | None:
        """Background detail that is lost at the network's size: float32 (H, W, 3) in px values."""
        return None if self.background is None else background_detail(self.background, self.letterbox)

    @property
    def topology(self) -> Topology:
        """Keypoints and limbs of its skeletons."""
        return TOPOLOGIES[self.dancer.topology]

    @property
    def fps(self) -> Fraction:
        """Frame rate of its training video."""
        return Fraction(self.dancer.fps)

    @property
    def stats(self) -> RetargetStats:
        """Positions and heights of the target, for retargeting."""
        return RetargetStats.from_dict(self.dancer.stats)


def save_bundle(
    folder: Path,
    dancer: Dancer,
    weights: Mapping[str, Mapping[str, Tensor]],
    background: NDArray[np.uint8] | None = None,
    sample: Path | None = None,
) -> Dancer:
    """Write a bundle, which appears complete or not at all; returns the record with checksums.

    `weights` are the tensors of the `generator`, and of the `face` generator if there is one. `background` is uint8
    RGB (H, W, 3); `sample` is a picture from the training.
    """
    with atomic_write_folder(folder) as partial:
        checksums: dict[str, str] = {}
        for name, field in (("generator", "weights_sha256"), ("face", "face_sha256")):
            if name in weights:
                file = partial / f"{name}.safetensors"
                save_file({key: tensor.detach().cpu().contiguous() for key, tensor in weights[name].items()}, file)
                checksums[field] = file_sha256(file)
        if background is not None:
            cv2.imwrite(str(partial / "stage.png"), background[..., ::-1])
            checksums["background_sha256"] = file_sha256(partial / "stage.png")
        dancer = dancer.model_copy(update=checksums)
        (partial / "dancer.json").write_text(dancer.model_dump_json(indent=2) + "\n")
        if sample is not None and sample.exists():
            shutil.copyfile(sample, partial / "sample.png")
        (partial / "README.md").write_text(card(dancer))
    return dancer


def record_metrics(folder: Path, metrics: dict[str, dict[str, dict[str, float]]]) -> None:
    """Add metrics on held-out frames to a bundle's record, by test, method and metric; weights do not change."""
    _amend(folder, {"metrics": metrics})


def record_settling(folder: Path, frames: int | None) -> None:
    """Add to a bundle's record after how many frames a cold start matches continuous rendering; None: it may never."""
    _amend(folder, {"settling_frames": frames})


def _amend(folder: Path, changes: dict[str, Any]) -> None:
    dancer = _read_record(folder / "dancer.json").model_copy(update=changes)
    for name, text in (("dancer.json", dancer.model_dump_json(indent=2) + "\n"), ("README.md", card(dancer))):
        with atomic_write(folder / name) as partial:
            partial.write_text(text)


def load_bundle(folder: Path) -> Bundle:
    """Load a bundle. Raises FileInvalid if it is incomplete, altered, or does not match its record."""
    dancer = _read_record(folder / "dancer.json")
    generator = build_generator(dancer.recipe)
    _load_weights(generator, folder / "generator.safetensors", dancer.weights_sha256)
    face = None
    if dancer.face_sha256 is not None:
        face = build_face_generator(dancer.recipe.face)
        _load_weights(face, folder / "face.safetensors", dancer.face_sha256)
    return Bundle(dancer, generator, face, _read_background(folder, dancer))


def _load_weights(network: nn.Module, file: Path, sha256: str) -> None:
    try:
        weights = load_file(_verified(file, sha256))
    except SafetensorError as error:
        raise FileInvalid("is not a safetensors file", file=file, got=str(error)) from error
    expected = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    actual = {name: tuple(tensor.shape) for name, tensor in weights.items()}
    if actual != expected:
        different = sorted({n for n, _ in set(actual.items()) ^ set(expected.items())})
        raise FileInvalid("does not match its recipe", file=file, got=f"different tensors: {', '.join(different[:4])}")
    network.load_state_dict(weights)
    network.eval().requires_grad_(False)


def _read_background(folder: Path, dancer: Dancer) -> NDArray[np.uint8] | None:
    if not dancer.recipe.generator.background:
        return None
    file = _verified(folder / "stage.png", dancer.background_sha256)
    background = np.asarray(cv2.imread(str(file)), np.uint8)[..., ::-1]
    if background.shape[1::-1] != dancer.frame_size:
        expected, got = ("{}x{}".format(*size) for size in (dancer.frame_size, background.shape[1::-1]))
        raise FileInvalid("does not have the size of the frames", file=file, expected=expected, got=got)
    return np.ascontiguousarray(background)


def _verified(file: Path, sha256: str | None) -> Path:
    if not file.is_file():
        raise FileInvalid("is not a complete bundle", file=file.parent, expected=f"a file {file.name} in it")
    if (got := file_sha256(file)) != sha256:
        raise FileInvalid("does not match its checksum", file=file, expected=f"sha256 {sha256}", got=got)
    return file


def _read_record(file: Path) -> Dancer:
    try:
        plain = json.loads(file.read_text())
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        expected = "dancer.json of a bundle"
        raise FileInvalid("is not a dancer bundle", file=file, expected=expected, got=str(error)) from error
    if not isinstance(plain, dict) or plain.get("format") != FORMAT:
        got = plain.get("format") if isinstance(plain, dict) else type(plain).__name__
        raise FileInvalid("has another bundle format", file=file, expected=f"format {FORMAT}", got=str(got))
    try:
        return Dancer.model_validate(plain)
    except ValidationError as error:
        invalid = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()[:4])
        raise FileInvalid("is not a valid record of a dancer", file=file, got=invalid) from error
