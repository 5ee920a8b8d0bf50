"""One training of a fleet: what is asked for, what came of it, and where it lies."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Self

from cluster.core.error_records import Fault
from cluster.storage.base import Storage, StorageMissing, open_storage, split_uri
from cluster.training.placement import Need
from cluster.training.policy import Cause
from dancedist.data.background import CODE_VERSION as STAGE_VERSION
from dancedist.errors import FileInvalid
from dancedist.recipe import Recipe, fingerprint
from dancedist.training.loop import CODE_VERSION, trained_parts

# Written last: without it nothing counts.
MARKER = "trained.json"


@dataclass(frozen=True, slots=True)
class TargetJob:
    """A target to train. `videos`, `poses` (one of each video, or none at all) and `first` are URIs or absolute paths.

    `storage` is the fleet's, where all nodes reach it; `first` the bundle of a dancer whose weights it begins with;
    `nodes` Ray's ids of the nodes that its workers are to be on, one each, where that is decided already.
    """

    name: str
    videos: tuple[str, ...]
    recipe: Recipe
    need: Need
    storage: str
    poses: tuple[str, ...] = ()
    first: str | None = None
    nodes: tuple[str, ...] = ()

    def place(self, key: str) -> str:
        """URI of all that belongs to the training with this key."""
        return f"{self.storage.rstrip('/')}/{self.name}/{key}"

    @property
    def plain(self) -> bool:
        """Whether one process trains it: without DeepSpeed, which learns the same but starts later."""
        return self.need.workers == 1

    @property
    def checkpoints(self) -> str:
        """Name of the folder with checkpoints, in its place: one kind cannot be taken up by another."""
        stage = self.recipe.distributed.zero_stage
        shared = f"-of-{self.need.workers}" if stage else ""
        return "checkpoints-torch" if self.plain else f"checkpoints-zero-{stage}{shared}"


@dataclass(frozen=True, slots=True)
class Trained:
    """A bundle that is there, whole; `seconds` and `steps` of all attempts, the peaks those of the largest rank.

    `losses` of the last step; `metrics` of the dancer on its held-out block.
    """

    name: str
    key: str
    bundle: str
    steps: int
    seconds: float
    world: int
    peak_bytes: int
    peak_gpu_bytes: int
    losses: dict[str, float]
    metrics: dict[str, float]

    @classmethod
    def read(cls, place: Storage) -> Self | None:
        """What `place` says that is trained there."""
        try:
            return cls(**json.loads(place.read(MARKER)))
        except StorageMissing:
            return None

    def write(self, place: Storage) -> None:
        """From now on it is trained."""
        place.write(MARKER, (json.dumps(asdict(self), indent=2) + "\n").encode())


@dataclass(frozen=True, slots=True)
class Failed:
    """A training that came to nothing, and what that says of the next try."""

    fault: Fault
    cause: Cause


@dataclass(frozen=True, slots=True)
class News:
    """What rank 0 tells while it trains: new rows of the log, pictures by file name; `ranks`: each one's host and pid.

    Every attempt begins with all rows so far: those of a step that is known already are the same.
    """

    name: str
    step: int
    steps: int
    seconds: float
    rows: tuple[dict[str, float], ...]
    pictures: dict[str, bytes]
    ranks: tuple[tuple[str, int], ...]


def training_key(job: TargetJob) -> str:
    """16 hex digits of what decides the weights, without reading a film. Raises StorageMissing, StorageUnavailable."""
    files = [_seen(uri) for uri in (*job.videos, *job.poses)]
    begun = [] if job.first is None else _weights(job.first)
    parts = trained_parts(job.recipe)
    return fingerprint(*files, *begun, job.recipe.pose, *parts, CODE_VERSION, STAGE_VERSION)


def done(job: TargetJob) -> Trained | None:
    """What an earlier run has left of the same. Raises StorageMissing where a file of the job is not there."""
    return Trained.read(open_storage(job.place(training_key(job))))


def _seen(uri: str) -> str:
    store, name = split_uri(uri)
    entry = open_storage(store).stat(name)
    if entry is None:
        raise StorageMissing("is not there", file=uri)
    return f"{uri} {entry.size_bytes} {entry.etag}"


def _weights(bundle: str) -> list[str]:
    """What a bundle says of its weights: wherever it lies, and whatever was measured of it since."""
    try:
        plain = json.loads(open_storage(bundle).read("dancer.json"))
    except ValueError as error:
        raise FileInvalid("is no dancer", file=bundle, expected="dancer.json of a bundle", got=str(error)) from error
    return [str(plain.get(sum_name)) for sum_name in ("weights_sha256", "face_sha256")]
