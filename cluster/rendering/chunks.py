"""What a replica does: render chunks that are ordered, and store each once."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory

from torch import Tensor

from cluster.storage.base import open_storage
from dancedist.bundle.bundle import Bundle
from dancedist.errors import FileInvalid
from dancedist.pose.sequence import PoseSequence, read_poses
from dancedist.recipe import VideoRecipe
from dancedist.render.clip import Clip, Rgb, Wish, read_clip, render_clips, write_clip
from dancedist.render.plan import Chunk

POSES = "danced.parquet"


@dataclass(frozen=True)
class ChunkOrder:
    """A chunk of the dance that is in the store `place`: its poses lie there, in px of the target's frame.

    `fade_from`: name of the stored chunk before it, where a seam to it is to be faded over.
    """

    place: str
    number: int
    chunk: Chunk
    encoding: VideoRecipe
    fade_from: str | None = None
    label: bool = False

    @property
    def name(self) -> str:
        """Of what it becomes: another warm-up is another chunk."""
        faded = "-faded" if self.fade_from else ""
        return f"chunks/{self.number:05d}-{self.chunk.warm_up}{faded}.safetensors"


@dataclass(frozen=True)
class StoredChunk:
    """A chunk in its store: name and checksum of a file that is written once, and how it came about."""

    number: int
    name: str
    sha256: str
    start: int
    stop: int
    warm_up: int
    faded: bool
    seconds: float


Watch = Callable[[ChunkOrder, int, Rgb], None]


def unwatched(order: ChunkOrder, frame: int, picture: Rgb) -> None:
    """For orders that nobody waits for."""


def carry_out(bundle: Bundle, orders: Sequence[ChunkOrder], watch: Watch = unwatched) -> list[StoredChunk]:
    """Render the orders in lockstep, store what each becomes. One that was stored already is found, not replaced.

    `watch` is shown every frame of them.
    Raises StorageMissing, StorageUnavailable, FileInvalid.
    """
    began_s = time.monotonic()
    # By place too: other dances have chunks of the same name.
    stored = {(order.place, order.name): found for order in orders if (found := _found(order)) is not None}
    missing = [order for order in orders if (order.place, order.name) not in stored]
    with TemporaryDirectory(prefix="dancedist-") as scratch:
        folder = Path(scratch)
        poses = {place: _poses(place, folder) for place in {order.place for order in missing}}
        wishes = [Wish(poses[o.place], o.chunk, o.encoding, _state_before(o, folder), o.label) for o in missing]
        clips = render_clips(bundle, wishes, folder, lambda i, frame, picture: watch(missing[i], frame, picture))
        for order, clip in zip(missing, clips, strict=True):
            stored[order.place, order.name] = _stored(order, clip, folder, time.monotonic() - began_s)
    return [stored[order.place, order.name] for order in orders]


def fetch_clip(place: str, stored: StoredChunk, folder: Path) -> Clip:
    """Read a stored chunk. Raises FileInvalid where it is not what was stored, StorageMissing, StorageUnavailable."""
    path = folder / Path(stored.name).name
    open_storage(place).download(stored.name, path)
    try:
        if (got := sha256(path.read_bytes()).hexdigest()) != stored.sha256:
            raise FileInvalid("was altered", file=f"{place}/{stored.name}", expected=stored.sha256, got=got)
        return read_clip(path)
    finally:
        path.unlink()


def _found(order: ChunkOrder) -> StoredChunk | None:
    """What another attempt has stored and not told of."""
    store = open_storage(order.place)
    if store.stat(order.name) is None:
        return None
    return _told(order, store.read(order.name), 0.0)


def _stored(order: ChunkOrder, clip: Clip, folder: Path, seconds: float) -> StoredChunk:
    path = folder / "clip"
    write_clip(clip, path)
    store, data = open_storage(order.place), path.read_bytes()
    if not store.write(order.name, data, if_absent=True):
        # Two rendered it: the first one's is the film's, though they differ by roundings alone.
        data = store.read(order.name)
    return _told(order, data, seconds)


def _told(order: ChunkOrder, data: bytes, seconds: float) -> StoredChunk:
    chunk, digest = order.chunk, sha256(data).hexdigest()
    faded = order.fade_from is not None
    return StoredChunk(
        order.number, order.name, digest, chunk.start, chunk.stop, chunk.warm_up, faded, round(seconds, 2)
    )


def _poses(place: str, folder: Path) -> PoseSequence:
    path = folder / POSES
    open_storage(place).download(POSES, path)
    return read_poses(path)


def _state_before(order: ChunkOrder, folder: Path) -> Tensor | None:
    if order.fade_from is None:
        return None
    path = folder / "before"
    open_storage(order.place).download(order.fade_from, path)
    return read_clip(path).state
