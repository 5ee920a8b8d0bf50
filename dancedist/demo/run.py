"""From two films, drawn or given, to a dance, its figures and its pictures."""

from __future__ import annotations

import logging
import resource
import time
from pathlib import Path

from dancedist import __version__
from dancedist.bundle.bundle import Bundle, record_metrics
from dancedist.bundle.provenance import film_metadata
from dancedist.demo.measure import measure_footage, measure_synthetic
from dancedist.demo.outcome import Outcome, read_outcome
from dancedist.demo.show import write_sheet, write_side_by_side
from dancedist.evaluation import evaluation as ev
from dancedist.evaluation.report import means
from dancedist.pose.extract import extract_with_progress
from dancedist.pose.sequence import PoseSequence
from dancedist.progress import progress
from dancedist.recipe import Recipe, fingerprint
from dancedist.render.film import Film, render_film
from dancedist.synthetic import SOURCE, TARGET_TEST, TARGET_TRAINING
from dancedist.synthetic.films import write_scene
from dancedist.training.target import load_target, train_dancer
from dancedist.video.probe import Video, probe

log = logging.getLogger("dancedist")
# Changes when the same dancer and source would give another film, other figures or other pictures.
CODE_VERSION = 2


class Clock:
    """Seconds by stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = time.monotonic()

    def lap(self, stage: str) -> None:
        """Book the time since the last lap."""
        now = time.monotonic()
        self.seconds[stage] = round(now - self._last, 1)
        self._last = now


def run_demo(recipe: Recipe, out: Path, target_path: Path | None, source_path: Path | None) -> Outcome:
    """Do everything; what is done already in `out` is not done again.

    Without footage two performers are drawn and filmed, and the transfer is measured against its truth.
    """
    clock, synthetic = Clock(), target_path is None or source_path is None
    # Told now if it is missing, not after the training.
    ev.perceptual_metric()
    if target_path is None or source_path is None:
        target_path, source_path = film_performers(out / "footage", recipe)
        clock.lap("filming")
    target = load_target(target_path, recipe, out / "target")
    source = probe(source_path, recipe.video)
    poses = extract_with_progress(source, out / "source" / "poses.parquet", recipe.pose)
    clock.lap("poses")
    bundle = train_dancer(target, recipe, target_path.stem, out / "target", out / "dancer")
    bundle = ev.look_over(out / "dancer", bundle, target)
    clock.lap("training")
    key = fingerprint(bundle.dancer.weights_sha256, poses.fingerprint, recipe, synthetic, CODE_VERSION, __version__)
    done = read_outcome(out / "report.json", key)
    if done is not None:
        log.info("rendered and measured already: %s", out)
        return done
    made = _render(bundle, source, poses, out, recipe)
    clock.lap("rendering")
    outcome = Outcome(key, made.frames, made.size, {"film": made.path, "dancer": out / "dancer"})
    outcome.note(*target.notices, *source.notices, *made.notices)
    truth = measure_synthetic(outcome, bundle, target, poses, out, recipe) if synthetic else None
    if not synthetic:
        measure_footage(outcome, bundle, target, poses)
    record_metrics(out / "dancer", {name: means(report) for name, report in outcome.reports.items()})
    clock.lap("measuring")
    outcome.files["side_by_side"] = write_side_by_side(bundle, source, poses, made, out, recipe.video)
    outcome.files["sheet"] = write_sheet(bundle, source, poses, made, truth, out, recipe.video)
    clock.lap("pictures")
    return _finished(outcome, clock, out / "report.json")


def film_performers(folder: Path, recipe: Recipe) -> tuple[Path, Path]:
    """Film the two drawn performers, and the target in dances that it is not trained on."""
    scenes = {"target": TARGET_TRAINING, "target_test": TARGET_TEST, "source": SOURCE}
    for name, scene in scenes.items():
        write_scene(scene, folder / f"{name}.mp4", recipe.video)
    return folder / "target.mp4", folder / "source.mp4"


def _render(bundle: Bundle, source: Video, poses: PoseSequence, out: Path, recipe: Recipe) -> Film:
    with progress("rendering dance.mp4", len(poses)) as advance:
        marks = film_metadata(bundle.dancer)
        return render_film(bundle, source, poses, out / "dance.mp4", recipe.video, marks, advance)


def _finished(outcome: Outcome, clock: Clock, report: Path) -> Outcome:
    outcome.files["report"] = report
    outcome.seconds = clock.seconds
    outcome.peak_memory_gb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    # Written last: it says that the rest is there.
    outcome.write(report, ev.DANCER)
    return outcome
