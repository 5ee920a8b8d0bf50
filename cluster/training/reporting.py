"""What a worker of Ray Train says: checkpoints to it, news to who keeps the books, figures, the bundle at the end."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import ray.train
from ray.actor import ActorHandle
from ray.train import Checkpoint

from cluster.core.metrics import TRAINING_CHECKPOINT, TRAINING_SECONDS, TRAINING_STEPS
from cluster.storage.base import open_storage
from cluster.training.target import News, TargetJob, Trained
from dancedist.training.loop import LOG, Trainer
from dancedist.training.visualize import plot_losses

TELL_EVERY_S = 1.0
# What was measured, beside the bundle.
REPORT = "report.json"


class ReportedCheckpoints:
    """See dancedist.training.checkpoints.Checkpoints: Ray Train's, the last one that all ranks have reported.

    `folder` is where this rank writes its part before it is taken away.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.saved_at_s: float | None = None

    def load(self, take: Callable[[Path], bool]) -> bool:
        """See Checkpoints."""
        checkpoint = ray.train.get_checkpoint()
        if checkpoint is None:
            return False
        with checkpoint.as_directory() as path:
            return take(Path(path))

    def save(self, step: int, write: Callable[[Path], None], *, keep: bool) -> None:
        """See Checkpoints. The last one alone is kept: one key, one training."""
        with TemporaryDirectory(prefix="part-", dir=self.folder) as part:
            write(Path(part))
            name = f"step_{step:06d}"
            ray.train.report({"step": step}, Checkpoint.from_directory(part), checkpoint_dir_name=name)
        self.saved_at_s = time.time()


class Reporter:
    """Tells of a training's log and pictures as they come, in so far as they are new to this process."""

    def __init__(
        self, trainer: Trainer, name: str, ranks: tuple[tuple[str, int], ...], tell: ActorHandle | None
    ) -> None:
        self._trainer, self._name, self._ranks, self._tell = trainer, name, ranks, tell
        self._told_s = float("-inf")
        self._log_bytes = 0
        self._seen: dict[str, int] = {}

    def advance(self, _steps: int) -> None:
        """After a step: tell, if it is time to."""
        if self._tell is not None and time.monotonic() - self._told_s >= TELL_EVERY_S:
            self.tell()

    def tell(self) -> None:
        """What is new."""
        if self._tell is None:
            return
        trainer = self._trainer
        news = News(
            self._name, trainer.step, trainer.steps, trainer.state.seconds, self._rows(), self._pictures(), self._ranks
        )
        self._tell.hear.remote(news)
        self._told_s = time.monotonic()

    def _rows(self) -> tuple[dict[str, float], ...]:
        log = self._trainer.folder / LOG
        if not log.exists():
            return ()
        with log.open("rb") as file:
            file.seek(self._log_bytes)
            lines = file.read().splitlines()
            self._log_bytes = file.tell()
        return tuple(json.loads(line) for line in lines)

    def _pictures(self) -> dict[str, bytes]:
        written = {path: path.stat().st_mtime_ns for path in sorted(self._trainer.folder.glob("[!.]*.png"))}
        new = {path: when for path, when in written.items() if self._seen.get(path.name) != when}
        self._seen |= {path.name: when for path, when in new.items()}
        return {path.name: path.read_bytes() for path in new}


class StepCounter:
    """Counts for Prometheus what one process trains."""

    def __init__(self, trainer: Trainer, checkpoints: ReportedCheckpoints) -> None:
        self._trainer, self._checkpoints = trainer, checkpoints
        self._steps, self._seconds = trainer.step, trainer.state.seconds

    def advance(self, _steps: int) -> None:
        """After a step."""
        trainer, stage = self._trainer, {"stage": self._trainer.name}
        if (steps := trainer.step - self._steps) > 0:
            TRAINING_STEPS.inc(steps, stage)
            TRAINING_SECONDS.inc(max(trainer.state.seconds - self._seconds, 1e-9), stage)
        self._steps, self._seconds = trainer.step, trainer.state.seconds
        # Again and again: Ray forgets a gauge that is silent for 20 s.
        TRAINING_CHECKPOINT.set(self._checkpoints.saved_at_s)


def last_losses(log: Path) -> dict[str, float]:
    """The last row of a log, without its step."""
    row: dict[str, Any] = json.loads(log.read_text().splitlines()[-1])
    return {name: value for name, value in row.items() if name != "step"}


def redraw(trainer: Trainer) -> None:
    """The last pictures of a training that ended elsewhere: its checkpoint has none."""
    sample = trainer.folder / f"sample_{trainer.steps:06d}.png"
    if not sample.exists():
        trainer.stage.sample(sample)
    if not (trainer.folder / "losses.png").exists():
        plot_losses(trainer.folder / LOG, trainer.folder / "losses.png")


def publish(
    job: TargetJob, key: str, trainer: Trainer, world: int, peaks: list[tuple[int, int]], metrics: dict[str, float]
) -> None:
    """Take it all to the storage, the marker last; `metrics` of the dancer on its held-out block."""
    place = open_storage(job.place(key))
    for file in sorted((trainer.folder / "dancer").iterdir()):
        place.upload(file, f"dancer/{file.name}")
    for name in (LOG, "losses.png", REPORT):
        place.upload(trainer.folder / name, name)
    Trained(
        name=job.name,
        key=key,
        bundle=f"{job.place(key)}/dancer",
        steps=trainer.steps,
        seconds=round(trainer.state.seconds, 1),
        world=world,
        peak_bytes=max(memory for memory, _ in peaks),
        peak_gpu_bytes=max(gpu for _, gpu in peaks),
        losses=last_losses(trainer.folder / LOG),
        metrics=metrics,
    ).write(place)
