"""Work of a replica: render a batch of chunks, and store each once."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory

from torch import Tensor

from cluster.storage.open import open_storage
from dancedist.arrays import Rgb
from dancedist.bundle.bundle import Bundle
from dancedist.errors import FileInvalid
from dancedist.pose.sequence import PoseSequence, read_poses
from dancedist.recipe.schema import VideoRecipe
from dancedist.render.clip import Clip, ClipRequest, read_clip, render_clips, write_clip
from dancedist.render.plan import Chunk

POSES = "danced.parquet"


@dataclass(frozen=True)
class RenderTask:
    """A chunk of the dance in the store `storage_uri`, which contains its poses, in px of the target's frame.

    `fade_from`: name of the previous stored chunk, if this chunk is to fade in from it to hide the seam.
    """

    storage_uri: str
    number: int
    chunk: Chunk
    encoding: VideoRecipe
    fade_from: str | None = None
    label: bool = False

    @property
    def name(self) -> str:
        """Name of the stored chunk; it depends on the warm-up and the fade."""
        faded = "-faded" if self.fade_from else ""
        return f"chunks/{self.number:05d}-{self.chunk.warm_up}{faded}.safetensors"


@dataclass(frozen=True)
class StoredChunk:
    """A chunk in its store: name and checksum of a file that is written once, and how it was rendered."""

    number: int
    name: str
    sha256: str
    start: int
    stop: int
    warm_up: int
    faded: bool
    seconds: float


OnFrame = Callable[[RenderTask, int, Rgb], None]


def ignore_frame(task: RenderTask, frame: int, picture: Rgb) -> None:
    """An OnFrame callback that does nothing. `picture`: uint8 RGB (H, W, 3)."""


def render_tasks(bundle: Bundle, tasks: Sequence[RenderTask], on_frame: OnFrame = ignore_frame) -> list[StoredChunk]:
    """Render the tasks as one batch and store their chunks. A chunk that is already stored is not rendered again.

    `on_frame` receives every rendered frame.
    Raises StorageMissing, StorageUnavailable, FileInvalid.
    """
    started_s = time.monotonic()
    # Keyed by storage, too: other dances have chunks of the same name.
    stored = {(task.storage_uri, task.name): chunk for task in tasks if (chunk := _find_stored(task)) is not None}
    missing = [task for task in tasks if (task.storage_uri, task.name) not in stored]
    with TemporaryDirectory(prefix="dancedist-") as scratch:
        folder = Path(scratch)
        poses = {storage_uri: _poses(storage_uri, folder) for storage_uri in {task.storage_uri for task in missing}}
        requests = [
            ClipRequest(poses[task.storage_uri], task.chunk, task.encoding, _state_before(task, folder), task.label)
            for task in missing
        ]
        clips = render_clips(bundle, requests, folder, lambda i, frame, picture: on_frame(missing[i], frame, picture))
        for task, clip in zip(missing, clips, strict=True):
            stored[task.storage_uri, task.name] = _store(task, clip, folder, time.monotonic() - started_s)
    return [stored[task.storage_uri, task.name] for task in tasks]


def fetch_clip(storage_uri: str, stored: StoredChunk, folder: Path) -> Clip:
    """Read a stored chunk. Raises FileInvalid if its checksum differs, StorageMissing, StorageUnavailable."""
    path = folder / Path(stored.name).name
    open_storage(storage_uri).download(stored.name, path)
    try:
        if (got := sha256(path.read_bytes()).hexdigest()) != stored.sha256:
            raise FileInvalid(
                "does not match its checksum", file=f"{storage_uri}/{stored.name}", expected=stored.sha256, got=got
            )
        return read_clip(path)
    finally:
        path.unlink()


def _find_stored(task: RenderTask) -> StoredChunk | None:
    """The task's chunk, if another attempt has stored it without recording it."""
    store = open_storage(task.storage_uri)
    if store.stat(task.name) is None:
        return None
    return _describe(task, store.read(task.name), 0.0)


def _store(task: RenderTask, clip: Clip, folder: Path, seconds: float) -> StoredChunk:
    """Store a clip; if another worker was faster, return the chunk that it stored."""
    path = folder / "clip"
    write_clip(clip, path)
    store, data = open_storage(task.storage_uri), path.read_bytes()
    if not store.write(task.name, data, if_absent=True):
        # Two workers rendered it: the first chunk counts. They differ in rounding errors only.
        data = store.read(task.name)
    return _describe(task, data, seconds)


def _describe(task: RenderTask, data: bytes, seconds: float) -> StoredChunk:
    chunk, digest = task.chunk, sha256(data).hexdigest()
    faded = task.fade_from is not None
    return StoredChunk(task.number, task.name, digest, chunk.start, chunk.stop, chunk.warm_up, faded, round(seconds, 2))


def _poses(storage_uri: str, folder: Path) -> PoseSequence:
    path = folder / POSES
    open_storage(storage_uri).download(POSES, path)
    return read_poses(path)


def _state_before(task: RenderTask, folder: Path) -> Tensor | None:
    if task.fade_from is None:
        return None
    path = folder / "before"
    open_storage(task.storage_uri).download(task.fade_from, path)
    return read_clip(path).state
