"""What a training worker reports: checkpoints to Ray Train, events to the driver, metrics, the final bundle."""

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
from cluster.storage.open import open_storage
from cluster.training.target import ProgressEvent, TargetJob, TrainingResult
from dancedist.training.loop import LOG, Trainer
from dancedist.training.loss_plot import plot_losses

REPORT_EVERY_S = 1.0
# Evaluation report, next to the bundle.
REPORT = "report.json"


class RayCheckpoints:
    """Ray Train's checkpoints; `load` gets the last one that all ranks reported. See training.checkpoints.Checkpoints.

    `folder` is where this rank writes its part before Ray Train uploads it.
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
        """See Checkpoints. Only the last one is stored, whatever `keep` says."""
        with TemporaryDirectory(prefix="part-", dir=self.folder) as part:
            write(Path(part))
            name = f"step_{step:06d}"
            ray.train.report({"step": step}, Checkpoint.from_directory(part), checkpoint_dir_name=name)
        self.saved_at_s = time.time()


class Reporter:
    """Sends new log rows and pictures of a training to the progress queue."""

    def __init__(
        self, trainer: Trainer, name: str, ranks: tuple[tuple[str, int], ...], progress_queue: ActorHandle | None
    ) -> None:
        self._trainer, self._name, self._ranks, self._progress_queue = trainer, name, ranks, progress_queue
        self._reported_s = float("-inf")
        self._log_bytes = 0
        self._reported_pictures: dict[str, int] = {}

    def advance(self, _steps: int) -> None:
        """Report after a step if REPORT_EVERY_S has passed."""
        if self._progress_queue is not None and time.monotonic() - self._reported_s >= REPORT_EVERY_S:
            self.report()

    def report(self) -> None:
        """Send everything that is new since the last report."""
        if self._progress_queue is None:
            return
        trainer = self._trainer
        event = ProgressEvent(
            self._name,
            trainer.step,
            trainer.steps,
            trainer.state.seconds,
            self._new_rows(),
            self._new_pictures(),
            self._ranks,
        )
        self._progress_queue.receive.remote(event)
        self._reported_s = time.monotonic()

    def _new_rows(self) -> tuple[dict[str, float], ...]:
        log = self._trainer.folder / LOG
        if not log.exists():
            return ()
        with log.open("rb") as file:
            file.seek(self._log_bytes)
            lines = file.read().splitlines()
            self._log_bytes = file.tell()
        return tuple(json.loads(line) for line in lines)

    def _new_pictures(self) -> dict[str, bytes]:
        written = {path: path.stat().st_mtime_ns for path in sorted(self._trainer.folder.glob("[!.]*.png"))}
        new = {path: when for path, when in written.items() if self._reported_pictures.get(path.name) != when}
        self._reported_pictures |= {path.name: when for path, when in new.items()}
        return {path.name: path.read_bytes() for path in new}


class StepCounter:
    """Counts steps and seconds of this process's training for Prometheus."""

    def __init__(self, trainer: Trainer, checkpoints: RayCheckpoints) -> None:
        self._trainer, self._checkpoints = trainer, checkpoints
        self._steps, self._seconds = trainer.step, trainer.state.seconds

    def advance(self, _steps: int) -> None:
        """Update the counters after a step."""
        trainer, stage = self._trainer, {"stage": self._trainer.stage_name}
        if (steps := trainer.step - self._steps) > 0:
            TRAINING_STEPS.inc(steps, stage)
            TRAINING_SECONDS.inc(max(trainer.state.seconds - self._seconds, 1e-9), stage)
        self._steps, self._seconds = trainer.step, trainer.state.seconds
        # Set after every step: Ray drops a gauge that is not set for 20 s.
        TRAINING_CHECKPOINT.set(self._checkpoints.saved_at_s)


def last_losses(log: Path) -> dict[str, float]:
    """Return the losses in the last row of log.jsonl, without its step."""
    row: dict[str, Any] = json.loads(log.read_text().splitlines()[-1])
    return {name: value for name, value in row.items() if name != "step"}


def redraw_samples(trainer: Trainer) -> None:
    """Draw the last pictures of a training that finished on another node: checkpoints contain none."""
    sample = trainer.folder / f"sample_{trainer.steps:06d}.png"
    if not sample.exists():
        trainer.stage.sample(sample)
    if not (trainer.folder / "losses.png").exists():
        plot_losses(trainer.folder / LOG, trainer.folder / "losses.png")


def publish_result(
    job: TargetJob, key: str, trainer: Trainer, world: int, peaks: list[tuple[int, int]], metrics: dict[str, float]
) -> None:
    """Upload the bundle, log and report, then the marker; `metrics`: of the dancer on its held-out block.

    `peaks`: (memory, GPU memory) in bytes of each rank.
    """
    store = open_storage(job.training_uri(key))
    for file in sorted((trainer.folder / "dancer").iterdir()):
        store.upload(file, f"dancer/{file.name}")
    for name in (LOG, "losses.png", REPORT):
        store.upload(trainer.folder / name, name)
    TrainingResult(
        name=job.name,
        key=key,
        bundle=f"{job.training_uri(key)}/dancer",
        steps=trainer.steps,
        seconds=round(trainer.state.seconds, 1),
        world=world,
        peak_bytes=max(memory for memory, _ in peaks),
        peak_gpu_bytes=max(gpu for _, gpu in peaks),
        losses=last_losses(trainer.folder / LOG),
        metrics=metrics,
    ).write(store)
