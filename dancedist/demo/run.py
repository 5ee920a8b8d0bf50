"""The demo: from two films, the user's or drawn ones, to a rendered dance, its measurements and its pictures."""

from __future__ import annotations

import logging
import resource
import time
from pathlib import Path

from dancedist import __version__
from dancedist.bundle.bundle import Bundle, record_metrics
from dancedist.bundle.provenance import film_metadata
from dancedist.data.target import load_target
from dancedist.demo.measure import measure_footage, measure_synthetic
from dancedist.demo.outcome import Outcome, read_outcome
from dancedist.demo.show import write_sheet, write_side_by_side
from dancedist.evaluation.measure import perceptual_metric
from dancedist.evaluation.renditions import DANCER
from dancedist.evaluation.report import means
from dancedist.evaluation.settling import measure_settling
from dancedist.pose.extract import extract_with_progress
from dancedist.pose.sequence import PoseSequence
from dancedist.progress import progress
from dancedist.recipe.fingerprint import fingerprint
from dancedist.recipe.schema import Recipe
from dancedist.render.film import Film, render_film
from dancedist.synthetic import SOURCE, TARGET_TEST, TARGET_TRAINING
from dancedist.synthetic.films import write_scene
from dancedist.training.target import train_dancer
from dancedist.video.probe import Video, probe

log = logging.getLogger("dancedist")
# Raise it when the same dancer and source would give another film, other measurements or other pictures.
DEMO_VERSION = 2


class Clock:
    """Measure the seconds of each step."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = time.monotonic()

    def lap(self, step: str) -> None:
        """Assign the time since the last lap to a step."""
        now = time.monotonic()
        self.seconds[step] = round(now - self._last, 1)
        self._last = now


def run_demo(recipe: Recipe, out: Path, target_path: Path | None, source_path: Path | None) -> Outcome:
    """Run all steps in `out`; steps that are already done there are not repeated.

    Without both videos two drawn performers are filmed, and the transfer is measured against its ground truth.
    """
    clock, synthetic = Clock(), target_path is None or source_path is None
    # Fails now if its weights are missing, not after the training.
    perceptual_metric()
    if target_path is None or source_path is None:
        target_path, source_path = film_performers(out / "footage", recipe)
        clock.lap("filming")
    target = load_target(target_path, recipe, out / "target")
    source = probe(source_path, recipe.video)
    poses = extract_with_progress(source, out / "source" / "poses.parquet", recipe.pose)
    clock.lap("poses")
    bundle = train_dancer(target, recipe, target_path.stem, out / "target", out / "dancer")
    bundle = measure_settling(out / "dancer", bundle, target)
    clock.lap("training")
    key = fingerprint(bundle.dancer.weights_sha256, poses.fingerprint, recipe, synthetic, DEMO_VERSION, __version__)
    earlier = read_outcome(out / "report.json", key)
    if earlier is not None:
        log.info("already rendered and measured: %s", out)
        return earlier
    film = _render(bundle, source, poses, out, recipe)
    clock.lap("rendering")
    outcome = Outcome(key, film.frames, film.size, {"film": film.path, "dancer": out / "dancer"})
    outcome.note(*target.notices, *source.notices, *film.notices)
    truth = measure_synthetic(outcome, bundle, target, poses, out, recipe) if synthetic else None
    if not synthetic:
        measure_footage(outcome, bundle, target, poses)
    record_metrics(out / "dancer", {name: means(report) for name, report in outcome.reports.items()})
    clock.lap("measuring")
    outcome.files["side_by_side"] = write_side_by_side(bundle, source, poses, film, out, recipe.video)
    outcome.files["sheet"] = write_sheet(bundle, source, poses, film, truth, out, recipe.video)
    clock.lap("pictures")
    return _write_report(outcome, clock, out / "report.json")


def film_performers(folder: Path, recipe: Recipe) -> tuple[Path, Path]:
    """Film the two drawn performers, and the target in test dances; returns the target's and the source's file."""
    scenes = {"target": TARGET_TRAINING, "target_test": TARGET_TEST, "source": SOURCE}
    for name, scene in scenes.items():
        write_scene(scene, folder / f"{name}.mp4", recipe.video)
    return folder / "target.mp4", folder / "source.mp4"


def _render(bundle: Bundle, source: Video, poses: PoseSequence, out: Path, recipe: Recipe) -> Film:
    with progress("rendering dance.mp4", len(poses)) as advance:
        metadata = film_metadata(bundle.dancer)
        return render_film(bundle, source, poses, out / "dance.mp4", recipe.video, metadata, advance)


def _write_report(outcome: Outcome, clock: Clock, report: Path) -> Outcome:
    outcome.files["report"] = report
    outcome.seconds = clock.seconds
    outcome.peak_memory_gb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    # Written last: it marks the demo as complete.
    outcome.write(report, DANCER)
    return outcome
