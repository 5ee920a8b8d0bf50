"""Detect every person in a segment of a video with the networks that the recipe names."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from dancedist import weights
from dancedist.errors import RecipeInvalid, WeightsMissing
from dancedist.files import file_sha256
from dancedist.pose.networks import Frame, PersonDetector, PoseNetwork
from dancedist.pose.people import People
from dancedist.pose.people_tracker import PeopleTracker, Person
from dancedist.pose.runtime import Backend, Device, Network, Precision, choose_backend
from dancedist.pose.topology import COCO17, HALPE26, TOPOLOGIES, WHOLEBODY133, Topology, convert
from dancedist.progress import Advance, silent
from dancedist.recipe.schema import PoseRecipe


@dataclass(frozen=True)
class InferenceSpec:
    """What poses depend on besides frames and recipe: both network files and how they are computed."""

    detector_sha256: str
    model_sha256: str
    backend: Backend
    device: Device
    precision: Precision
    model: str

    @property
    def label(self) -> str:
        """Human-readable description of the pose network and its runtime."""
        return f"{self.model} ({self.backend}, {self.device}, {self.precision})"


def inference_spec(recipe: PoseRecipe, device: Device) -> InferenceSpec:
    """Inference spec of a detector on `device`, without loading its networks.

    Raises WeightsMissing, RecipeInvalid.
    """
    backend = recipe.backend
    if backend == "auto":
        backend = "onnxruntime" if device == "gpu" else "openvino"
    hashes = [file_sha256(_weights_file(name)) for name in (recipe.detector, recipe.model)]
    return InferenceSpec(hashes[0], hashes[1], backend, device, recipe.precision, Path(recipe.model).stem)


class PeopleDetector:
    """Person detector and pose network, loaded; up to `streams` threads may call `segment` at once.

    The result depends on the inference spec in `means`, but not on `streams` or the recipe's thread count.
    Raises WeightsMissing, FileInvalid, RecipeInvalid.
    """

    def __init__(self, recipe: PoseRecipe, streams: int = 1) -> None:
        self.recipe, self.streams = recipe, streams
        self.topology = TOPOLOGIES[recipe.topology]
        backend = choose_backend(recipe.backend, recipe.precision)
        threads = max(1, (recipe.threads or available_cores()) // streams)
        files = [_weights_file(name) for name in (recipe.detector, recipe.model)]
        networks = [Network(f, backend, recipe.precision, streams=streams, threads=threads) for f in files]
        self._person_detector = PersonDetector(networks[0], files[0])
        self._pose_network = PoseNetwork(networks[1], files[1])
        self._network_topology = _network_topology(self._pose_network.keypoints, self.topology, recipe.model)
        self.spec = replace(inference_spec(recipe, networks[1].device), backend=backend)

    def segment(self, frames: Iterable[Frame | None], advance: Advance = silent) -> People:
        """Detect and track every person in `frames`; segments are independent of each other.

        A frame is uint8 RGB (H, W, 3), or None where it could not be decoded.
        """
        tracker = PeopleTracker(self._person_detector, self._pose_network, self.recipe)
        people_by_frame: list[list[Person]] = []
        missing: list[bool] = []
        for frame in frames:
            missing.append(frame is None)
            people_by_frame.append(tracker.update(frame, len(people_by_frame)))
            advance(1)
        columns = max((p.column + 1 for row in people_by_frame for p in row), default=1)
        people = People.empty(len(people_by_frame), columns, len(self._network_topology))
        people.missing[:] = missing
        for t, row in enumerate(people_by_frame):
            for p in row:
                at = t, p.column
                people.xy[at], people.score[at], people.box[at], people.track[at] = p.xy, p.score, p.box, p.track
        xy, score = convert(people.xy, people.score, self._network_topology, self.topology)
        return replace(people, xy=xy, score=score)


def available_cores() -> int:
    """Number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _weights_file(name: str) -> Path:
    if name.endswith(".onnx"):
        if not Path(name).is_file():
            raise WeightsMissing("does not exist", file=name, expected="an ONNX network")
        return Path(name)
    return weights.ensure(name)


def _network_topology(keypoints: int, requested: Topology, model: str) -> Topology:
    """Topology of a network with `keypoints` outputs. Raises RecipeInvalid if it cannot be converted to `requested`."""
    topology = next((t for t in (COCO17, HALPE26, WHOLEBODY133) if len(t) == keypoints), None)
    if topology is None or len(requested) > keypoints:
        expected = f"{len(requested)} keypoints or more"
        if requested is WHOLEBODY133:
            expected = "a whole-body network such as rtmw-l"
        message = f"pose.model {model} does not support topology {requested.name}"
        raise RecipeInvalid(message, expected=expected, got=f"{keypoints} keypoints")
    return topology
