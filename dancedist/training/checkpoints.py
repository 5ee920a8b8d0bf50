"""Where a training leaves its checkpoints: a folder on one machine, Ray Train's storage on a cluster."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from dancedist.files import published_folder


class Checkpoints(Protocol):
    """A place for checkpoints, each a folder named by the steps done."""

    def load(self, take: Callable[[Path], bool]) -> bool:
        """Offer what there is, the newest first, until one is taken; whether one was. All ranks see the same."""

    def save(self, step: int, write: Callable[[Path], None], *, keep: bool) -> None:
        """Have a checkpoint written, every rank its part; it counts when all have. Older ones go, but for `keep`."""


class FolderCheckpoints:
    """`step_NNNNNN` in a folder: the last one, and those that were to be kept."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def load(self, take: Callable[[Path], bool]) -> bool:
        """See Checkpoints."""
        return any(take(path) for path in sorted(self.folder.glob("step_*"), reverse=True))

    def save(self, step: int, write: Callable[[Path], None], *, keep: bool) -> None:
        """See Checkpoints. A kill at any instant leaves this one or the last."""
        path = self.folder / f"step_{step:06d}"
        with published_folder(path) as partial:
            write(partial)
            if keep:
                (partial / "keep").touch()
        for other in self.folder.glob("step_*"):
            # What an earlier training left at a later step would be offered first.
            if other.name > path.name or not (other == path or (other / "keep").exists()):
                shutil.rmtree(other, ignore_errors=True)
