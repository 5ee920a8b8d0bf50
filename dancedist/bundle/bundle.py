"""A trained dancer on disk: `generator.safetensors`, `face.safetensors`, `dancer.json`, the empty stage, a card."""

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
from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from dancedist.data.background import stage_detail
from dancedist.data.pairs import to_tensor
from dancedist.errors import FileInvalid
from dancedist.files import published, published_folder
from dancedist.models.face import FaceGenerator, build_face_generator
from dancedist.models.generator import Generator, build_generator
from dancedist.pose.topology import TOPOLOGIES, Topology
from dancedist.recipe import Recipe, file_sha256
from dancedist.retarget.stats import RetargetStats
from dancedist.video.letterbox import Fit, fit

FORMAT = 1
# The picture that a dancer is chosen by.
PORTRAIT = "portrait.png"


class Provenance(BaseModel):
    """What a dancer was made of, when and on what."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    video: str
    video_sha256: str
    poses_fingerprint: str
    training_fingerprint: str
    steps: int
    train_frames: int
    seconds: float
    machine: str
    versions: dict[str, str]
    finished: str


class Dancer(BaseModel):
    """`dancer.json`: everything about a dancer but the weights. Sizes are (width, height) px."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: int = FORMAT
    name: str
    recipe: Recipe
    topology: str
    fps: str
    frame_size: tuple[int, int]
    picture_pixels: int
    stats: dict[str, Any]
    weights_sha256: str = ""
    face_sha256: str | None = None
    stage_sha256: str | None = None
    provenance: Provenance
    metrics: dict[str, dict[str, dict[str, float]]] = {}
    settling_frames: int | None = None

    @property
    def fit(self) -> Fit:
        """How the target's frames lie in the network's picture."""
        return fit(self.frame_size, self.picture_pixels, self.recipe.multiple)


@dataclass(frozen=True, eq=False)
class Bundle:
    """A dancer that can be rendered: the record and the generators in evaluation mode, on the CPU.

    `face` refines the face, where the recipe had such a stage and the target showed one. `stage` is the empty stage in
    full size, uint8 RGB (H, W, 3), where the recipe has a backdrop.
    """

    dancer: Dancer
    generator: Generator
    face: FaceGenerator | None = None
    stage: NDArray[np.uint8] | None = None

    @property
    def fit(self) -> Fit:
        """How the target's frames lie in the network's picture."""
        return self.dancer.fit

    @property
    def device(self) -> torch.device:
        """Where its generator is."""
        return next(self.generator.parameters()).device

    @cached_property
    def backdrop(self) -> Tensor | None:
        """The stage as the network sees it: float32 (1, 3, h, w) in [-1, 1]."""
        return None if self.stage is None else to_tensor(self.fit.to_picture(self.stage)[None])

    @cached_property
    def detail(self) -> NDArray[np.float32] | None:
        """What the network's size loses of the stage: float32 (H, W, 3) in px values."""
        return None if self.stage is None else stage_detail(self.stage, self.fit)

    @property
    def topology(self) -> Topology:
        """The keypoints its figures are drawn from."""
        return TOPOLOGIES[self.dancer.topology]

    @property
    def fps(self) -> Fraction:
        """The rate it was trained at."""
        return Fraction(self.dancer.fps)

    @property
    def stats(self) -> RetargetStats:
        """Where the target stood and how tall it was there."""
        return RetargetStats.from_dict(self.dancer.stats)


def save_bundle(
    folder: Path,
    dancer: Dancer,
    weights: Mapping[str, Mapping[str, Tensor]],
    stage: NDArray[np.uint8] | None = None,
    sample: Path | None = None,
) -> Dancer:
    """Write the bundle whole or not at all; returns the record with the checksums in it.

    `weights` of the `generator`, and of the `face` generator where there is one.
    """
    with published_folder(folder) as partial:
        sums: dict[str, str] = {}
        for name, sum_name in (("generator", "weights_sha256"), ("face", "face_sha256")):
            if name in weights:
                file = partial / f"{name}.safetensors"
                save_file({key: tensor.detach().cpu().contiguous() for key, tensor in weights[name].items()}, file)
                sums[sum_name] = file_sha256(file)
        if stage is not None:
            cv2.imwrite(str(partial / "stage.png"), stage[..., ::-1])
            sums["stage_sha256"] = file_sha256(partial / "stage.png")
        dancer = dancer.model_copy(update=sums)
        (partial / "dancer.json").write_text(dancer.model_dump_json(indent=2) + "\n")
        if sample is not None and sample.exists():
            shutil.copyfile(sample, partial / "sample.png")
        (partial / "README.md").write_text(card(dancer))
    return dancer


def record_metrics(folder: Path, metrics: dict[str, dict[str, dict[str, float]]]) -> None:
    """Note in a bundle how well it did on frames it never saw (what was danced, method, metric); weights stay."""
    _amend(folder, {"metrics": metrics})


def record_settling(folder: Path, frames: int | None) -> None:
    """Note in a bundle after how many frames it forgets how a rendering began; None: it may never."""
    _amend(folder, {"settling_frames": frames})


def _amend(folder: Path, changes: dict[str, Any]) -> None:
    dancer = _read_record(folder / "dancer.json").model_copy(update=changes)
    for name, text in (("dancer.json", dancer.model_dump_json(indent=2) + "\n"), ("README.md", card(dancer))):
        with published(folder / name) as partial:
            partial.write_text(text)


def load_bundle(folder: Path) -> Bundle:
    """Read a bundle. Raises FileInvalid for one that is incomplete, altered, or does not match its record."""
    dancer = _read_record(folder / "dancer.json")
    generator = build_generator(dancer.recipe)
    _fill(generator, folder / "generator.safetensors", dancer.weights_sha256)
    face = None
    if dancer.face_sha256 is not None:
        face = build_face_generator(dancer.recipe.face)
        _fill(face, folder / "face.safetensors", dancer.face_sha256)
    return Bundle(dancer, generator, face, _read_stage(folder, dancer))


def _fill(network: nn.Module, file: Path, sha256: str) -> None:
    try:
        weights = load_file(_checked(file, sha256))
    except SafetensorError as error:
        raise FileInvalid("is no safetensors file", file=file, got=str(error)) from error
    wanted = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    have = {name: tuple(tensor.shape) for name, tensor in weights.items()}
    if have != wanted:
        odd = sorted({n for n, _ in set(have.items()) ^ set(wanted.items())})
        raise FileInvalid("does not fit its recipe", file=file, got=f"other tensors: {', '.join(odd[:4])}")
    network.load_state_dict(weights)
    network.eval().requires_grad_(False)


def _read_stage(folder: Path, dancer: Dancer) -> NDArray[np.uint8] | None:
    if not dancer.recipe.generator.backdrop:
        return None
    file = _checked(folder / "stage.png", dancer.stage_sha256)
    stage = np.asarray(cv2.imread(str(file)), np.uint8)[..., ::-1]
    if stage.shape[1::-1] != dancer.frame_size:
        got = f"{stage.shape[1]}x{stage.shape[0]}"
        raise FileInvalid("does not fit the frames", file=file, expected="{}x{}".format(*dancer.frame_size), got=got)
    return np.ascontiguousarray(stage)


def _checked(file: Path, sha256: str | None) -> Path:
    if not file.is_file():
        raise FileInvalid("is no complete bundle", file=file.parent, expected=f"{file.name} in it")
    if (got := file_sha256(file)) != sha256:
        raise FileInvalid("was altered", file=file, expected=f"sha256 {sha256}", got=got)
    return file


def _read_record(file: Path) -> Dancer:
    try:
        plain = json.loads(file.read_text())
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise FileInvalid("is no dancer", file=file, expected="dancer.json of a bundle", got=str(error)) from error
    if not isinstance(plain, dict) or plain.get("format") != FORMAT:
        got = plain.get("format") if isinstance(plain, dict) else type(plain).__name__
        raise FileInvalid("is a dancer of another format", file=file, expected=f"format {FORMAT}", got=str(got))
    try:
        return Dancer.model_validate(plain)
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()[:4])
        raise FileInvalid("is no valid dancer", file=file, got=faults) from error


def _settles(dancer: Dancer) -> str:
    return "not within what was watched" if dancer.settling_frames is None else f"in {dancer.settling_frames} frames"


def card(dancer: Dancer) -> str:
    """The bundle's README.md."""
    made, size, r = dancer.provenance, dancer.fit.picture_size, dancer.recipe
    faceless = "face" in r.stages and dancer.face_sha256 is None
    lines = [
        f"# Dancer: {dancer.name}",
        "",
        "Renders this person dancing another's dance. **What it renders is synthetic: say so wherever it is shown,",
        "and have the person's consent.** Made with dancedist; method: Everybody Dance Now (Chan et al., ICCV 2019).",
        "",
        "| | |",
        "|---|---|",
        f"| trained on | `{made.video}`, {made.train_frames} frames, sha256 `{made.video_sha256[:16]}` |",
        f"| frames | {dancer.frame_size[0]}x{dancer.frame_size[1]} px at {float(Fraction(dancer.fps)):.2f}/s |",
        f"| network | {size[0]}x{size[1]} px, {r.generator.filters} filters, {r.generator.blocks} blocks |",
        f"| training | {made.steps} steps in {made.seconds / 60:.1f} minutes on {made.machine}, {made.finished} |",
        f"| poses | {dancer.topology}, `{r.pose.model}` |",
        f"| stages | {', '.join(r.stages)}{' (no face was seen)' if faceless else ''} |",
        f"| temporal smoothing | {'on' if r.training.temporal else 'off'} |",
        f"| forgets how it began | {_settles(dancer)} |",
        "",
        f"![as it is rendered]({PORTRAIT})",
        "",
        "![figure, result, truth](sample.png)",
        "",
    ]
    if dancer.metrics:
        lines += ["## On frames it never saw", ""]
        for danced, methods in dancer.metrics.items():
            columns = sorted({k for values in methods.values() for k in values})
            lines += [f"{danced}:", "", f"| | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|"]
            for name, values in methods.items():
                lines.append(f"| {name} | {' | '.join(str(values.get(k, '-')) for k in columns)} |")
            lines.append("")
    lines += [
        "## Limits",
        "",
        "Poses far from those it was trained on, props, other clothes and other backgrounds fail.",
    ]
    return "\n".join(lines) + "\n"
