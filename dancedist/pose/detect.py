"""Everybody in a segment of a film, by the networks that the recipe names."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dancedist import weights
from dancedist.errors import RecipeInvalid, WeightsMissing
from dancedist.pose.crowd import Crowd, Person
from dancedist.pose.networks import Frame, PersonFinder, PoseNetwork
from dancedist.pose.runtime import Floats, Network, choose_backend
from dancedist.pose.topology import COCO17, HALPE26, TOPOLOGIES, WHOLEBODY133, Topology, convert
from dancedist.progress import Advance, silent
from dancedist.recipe import PoseRecipe, file_sha256


@dataclass(frozen=True, eq=False)
class People:
    """All persons of T frames in P columns; a column may hold one person after another.

    `xy` float32 (T, P, K, 2) px, `score` float32 (T, P, K) in [0, 1], `box` float32 (T, P, 4) px (left, top,
    right, bottom), `track` int32 (T, P): the number of the person within the segment. Nobody: NaN, 0, NaN, -1.
    `missing` (T,): frames that could not be decoded.
    """

    xy: Floats
    score: Floats
    box: Floats
    track: NDArray[np.int32]
    missing: NDArray[np.bool_]

    @classmethod
    def nobody(cls, frames: int, columns: int, keypoints: int) -> People:
        """Frames that hold nobody yet."""
        return cls(
            np.full((frames, columns, keypoints, 2), np.nan, np.float32),
            np.zeros((frames, columns, keypoints), np.float32),
            np.full((frames, columns, 4), np.nan, np.float32),
            np.full((frames, columns), -1, np.int32),
            np.zeros(frames, np.bool_),
        )

    def __len__(self) -> int:
        return len(self.xy)


class PeopleDetector:
    """Detector and pose network, ready to run; `streams` threads may call `segment` at once.

    The result depends neither on `streams` nor on the recipe's threads. `identity` names what it does depend on
    besides the frames and the recipe: weights, backend, device, precision. Raises WeightsMissing, FileInvalid,
    RecipeInvalid.
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
        self.identity = (*(file_sha256(f) for f in files), backend, nets[1].device, recipe.precision)
        self.label = f"{Path(recipe.model).stem} ({backend}, {nets[1].device}, {recipe.precision})"

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
