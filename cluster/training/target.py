"""One training of a fleet: the job, its result, its progress events, and their storage URIs."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Self

from cluster.core.error_records import ErrorRecord
from cluster.storage.base import Storage, StorageMissing
from cluster.storage.open import open_storage, split_uri
from cluster.training.placement import ResourceRequest
from cluster.training.policy import Cause
from dancedist.data.background import BACKGROUND_VERSION
from dancedist.errors import FileInvalid
from dancedist.recipe.fingerprint import fingerprint
from dancedist.recipe.schema import Recipe
from dancedist.training.loop import TRAINING_VERSION, trained_parts

# Written last: a training without it is incomplete.
MARKER = "trained.json"


@dataclass(frozen=True, slots=True)
class TargetJob:
    """A target to train. `videos`, `poses` and `first` are URIs or absolute paths.

    `poses`: one per video, or none; `storage`: the fleet's storage, which all nodes reach; `first`: bundle of a dancer
    for a warm start; `nodes`: Ray node ids for the workers, one each, if they are decided already.
    """

    name: str
    videos: tuple[str, ...]
    recipe: Recipe
    resources: ResourceRequest
    storage: str
    poses: tuple[str, ...] = ()
    first: str | None = None
    nodes: tuple[str, ...] = ()

    def training_uri(self, key: str) -> str:
        """URI of the folder of the training with this key."""
        return f"{self.storage.rstrip('/')}/{self.name}/{key}"

    @property
    def single_process(self) -> bool:
        """Whether one process trains it: then without DeepSpeed, which gives the same result but starts more slowly."""
        return self.resources.workers == 1

    @property
    def checkpoints(self) -> str:
        """Folder of the checkpoints under `training_uri`; checkpoints of another kind cannot be resumed."""
        stage = self.recipe.distributed.zero_stage
        world = f"-of-{self.resources.workers}" if stage else ""
        return "checkpoints-torch" if self.single_process else f"checkpoints-zero-{stage}{world}"


@dataclass(frozen=True, slots=True)
class TrainingResult:
    """A finished training with a complete bundle.

    `steps` and `seconds`: of all attempts; `peak_bytes`, `peak_gpu_bytes`: of the largest rank; `losses`: of the last
    step; `metrics`: of the dancer on its held-out block.
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
    def read(cls, store: Storage) -> Self | None:
        """Read the result; None if the training is not finished."""
        try:
            return cls(**json.loads(store.read(MARKER)))
        except StorageMissing:
            return None

    def write(self, store: Storage) -> None:
        """Write the marker: from now on the training counts as finished."""
        store.write(MARKER, (json.dumps(asdict(self), indent=2) + "\n").encode())


@dataclass(frozen=True, slots=True)
class TrainingFailure:
    """A failed training; `cause` decides how it is tried again."""

    error: ErrorRecord
    cause: Cause


@dataclass(frozen=True, slots=True)
class ProgressEvent:
    """Progress sent by rank 0: new log rows, PNG pictures by file name; `ranks`: host and pid of each rank.

    The first event of an attempt repeats all earlier rows; rows of the same step are equal.
    """

    name: str
    step: int
    steps: int
    seconds: float
    rows: tuple[dict[str, float], ...]
    pictures: dict[str, bytes]
    ranks: tuple[tuple[str, int], ...]


class ProgressQueue:
    """Events from the workers to the fleet's driver; only the driver writes to MLflow."""

    def __init__(self) -> None:
        self._events: list[ProgressEvent] = []

    def receive(self, event: ProgressEvent) -> None:
        """Add an event."""
        self._events.append(event)

    def drain(self) -> list[ProgressEvent]:
        """Return and remove all events."""
        events, self._events = self._events, []
        return events


def training_key(job: TargetJob) -> str:
    """Hash (16 hex digits) of everything that determines the weights; uses ETags, reads no video.

    Raises StorageMissing, StorageUnavailable.
    """
    files = [_file_version(uri) for uri in (*job.videos, *job.poses)]
    initial = [] if job.first is None else _initial_weights(job.first)
    parts = trained_parts(job.recipe)
    return fingerprint(*files, *initial, job.recipe.pose, *parts, TRAINING_VERSION, BACKGROUND_VERSION)


def find_result(job: TargetJob) -> TrainingResult | None:
    """Result of an earlier run of the same training. Raises StorageMissing if an input file does not exist."""
    return TrainingResult.read(open_storage(job.training_uri(training_key(job))))


def _file_version(uri: str) -> str:
    store, name = split_uri(uri)
    entry = open_storage(store).stat(name)
    if entry is None:
        raise StorageMissing("does not exist", file=uri)
    return f"{uri} {entry.size_bytes} {entry.etag}"


def _initial_weights(bundle: str) -> list[str]:
    """Hashes of a bundle's weights; independent of its location and of later measurements."""
    try:
        plain = json.loads(open_storage(bundle).read("dancer.json"))
    except ValueError as error:
        raise FileInvalid(
            "is not a dancer bundle", file=bundle, expected="a JSON file dancer.json", got=str(error)
        ) from error
    return [str(plain.get(field)) for field in ("weights_sha256", "face_sha256")]
