"""Everybody in a segment of a film, by the networks that the recipe names."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from dancedist import weights
from dancedist.errors import RecipeInvalid, WeightsMissing
from dancedist.pose.networks import Frame, PersonFinder, PoseNetwork
from dancedist.pose.people import People
from dancedist.pose.people_tracker import Crowd, Person
from dancedist.pose.runtime import Backend, Device, Network, Precision, choose_backend
from dancedist.pose.topology import COCO17, HALPE26, TOPOLOGIES, WHOLEBODY133, Topology, convert
from dancedist.progress import Advance, silent
from dancedist.recipe import PoseRecipe, file_sha256


@dataclass(frozen=True)
class Means:
    """What poses depend on besides frames and recipe: the files of both networks, and what computes them."""

    detector_sha256: str
    model_sha256: str
    backend: Backend
    device: Device
    precision: Precision
    model: str

    @property
    def label(self) -> str:
        """For people to read."""
        return f"{self.model} ({self.backend}, {self.device}, {self.precision})"


def means_of(recipe: PoseRecipe, device: Device) -> Means:
    """The means of a detector on such a device, without loading its networks. Raises WeightsMissing, RecipeInvalid."""
    backend = recipe.backend
    if backend == "auto":
        backend = "onnxruntime" if device == "gpu" else "openvino"
    sums = [file_sha256(_weights_file(name)) for name in (recipe.detector, recipe.model)]
    return Means(sums[0], sums[1], backend, device, recipe.precision, Path(recipe.model).stem)


class PeopleDetector:
    """Detector and pose network, ready to run; `streams` threads may call `segment` at once.

    The result depends neither on `streams` nor on the recipe's threads, but on `means`. Raises WeightsMissing,
    FileInvalid, RecipeInvalid.
    """

    def __init__(self, recipe: PoseRecipe, streams: int = 1) -> None:
        self.recipe, self.streams = recipe, streams
        self.topology = TOPOLOGIES[recipe.topology]
        backend = choose_backend(recipe.backend, recipe.precision)
        threads = max(1, (recipe.threads or available_cores()) // streams)
        files = [_weights_file(name) for name in (recipe.detector, recipe.model)]
        nets = [Network(f, backend, recipe.precision, streams=streams, threads=threads) for f in files]
        self._finder, self._poser = PersonFinder(nets[0], files[0]), PoseNetwork(nets[1], files[1])
        self._layout = _layout(self._poser.keypoints, self.topology, recipe.model)
        self.means = replace(means_of(recipe, nets[1].device), backend=backend)

    def segment(self, frames: Iterable[Frame | None], advance: Advance = silent) -> People:
        """Everybody in these frames, uint8 RGB (H, W, 3) or None, knowing nothing of what came before them."""
        crowd = Crowd(self._finder, self._poser, self.recipe)
        seen: list[list[Person]] = []
        missing: list[bool] = []
        for frame in frames:
            missing.append(frame is None)
            seen.append(crowd.look(frame, len(seen)))
            advance(1)
        columns = max((p.column + 1 for row in seen for p in row), default=1)
        people = People.nobody(len(seen), columns, len(self._layout))
        people.missing[:] = missing
        for t, row in enumerate(seen):
            for p in row:
                at = t, p.column
                people.xy[at], people.score[at], people.box[at], people.track[at] = p.xy, p.score, p.box, p.track
        xy, score = convert(people.xy, people.score, self._layout, self.topology)
        return replace(people, xy=xy, score=score)


def available_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _weights_file(name: str) -> Path:
    if name.endswith(".onnx"):
        if not Path(name).is_file():
            raise WeightsMissing("no such file", file=name, expected="an ONNX network")
        return Path(name)
    return weights.ensure(name)


def _layout(keypoints: int, wanted: Topology, model: str) -> Topology:
    """Layout of a network with that many keypoints. Raises RecipeInvalid where `wanted` cannot be made of it."""
    layout = next((t for t in (COCO17, HALPE26, WHOLEBODY133) if len(t) == keypoints), None)
    if layout is None or len(wanted) > keypoints:
        hint = "a whole-body network such as rtmw-l" if wanted is WHOLEBODY133 else f"{len(wanted)} keypoints or more"
        raise RecipeInvalid(
            f"pose.model {model} does not give topology {wanted.name}", expected=hint, got=f"{keypoints} keypoints"
        )
    return layout
