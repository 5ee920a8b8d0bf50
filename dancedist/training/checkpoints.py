"""Where a training stores its checkpoints: a folder on one machine, Ray Train's storage on a cluster."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from dancedist.files import atomic_write_folder


class Checkpoints(Protocol):
    """A store of checkpoints; each is a folder named by the number of steps done."""

    def load(self, restore: Callable[[Path], bool]) -> bool:
        """Call `restore` with each checkpoint, the newest first, until it returns True.

        Returns whether a checkpoint was restored. All ranks get the same checkpoints.
        """

    def save(self, step: int, write: Callable[[Path], None], *, keep: bool) -> None:
        """Store a checkpoint to which every rank `write`s its part; it is valid once all have written.

        Older checkpoints are deleted, except those saved with `keep`.
        """


class FolderCheckpoints:
    """Subfolders `step_NNNNNN`: the last checkpoint, and those saved with `keep`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def load(self, restore: Callable[[Path], bool]) -> bool:
        """See Checkpoints."""
        return any(restore(path) for path in sorted(self.folder.glob("step_*"), reverse=True))

    def save(self, step: int, write: Callable[[Path], None], *, keep: bool) -> None:
        """See Checkpoints. A kill at any instant leaves this checkpoint or the last one complete."""
        path = self.folder / f"step_{step:06d}"
        with atomic_write_folder(path) as partial:
            write(partial)
            if keep:
                (partial / "keep").touch()
        for other in self.folder.glob("step_*"):
            # A later step is of an earlier training; it would be loaded first.
            if other.name > path.name or not (other == path or (other / "keep").exists()):
                shutil.rmtree(other, ignore_errors=True)
