"""The whole way for one target and one source, measured: what `dancedist demo` does."""

from __future__ import annotations

import json
import logging
import resource
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from dancedist import evaluation as ev
from dancedist.bundle import Bundle, record_metrics
from dancedist.errors import Notice
from dancedist.files import published
from dancedist.metrics.pose import pose_distance_px
from dancedist.metrics.report import Report, means, where_it_loses
from dancedist.metrics.sheet import contact_sheet
from dancedist.pose.extract import extract_to
from dancedist.pose.sequence import PoseSequence, torso_px
from dancedist.progress import progress
from dancedist.provenance import film_metadata
from dancedist.recipe import Recipe
from dancedist.render.chunk import figures
from dancedist.render.film import Film, as_danced_by, render_film
from dancedist.render.plan import Chunk
from dancedist.retarget.stats import RetargetStats
from dancedist.retarget.transform import retarget
from dancedist.synthetic import SOURCE, TARGET_TEST, TARGET_TRAINING
from dancedist.synthetic.films import drawn, write_scene
from dancedist.training.target import Target, load_target, train_dancer
from dancedist.video.decode import read_frame_at, read_frames
from dancedist.video.encode import write_film
from dancedist.video.montage import beside
from dancedist.video.probe import Video, probe

log = logging.getLogger("dancedist")
_SHEET_COLUMNS = 6


@dataclass
class Outcome:
    """What the demo made and measured. `reports` by what was danced, `seconds` by stage."""

    film: Film
    files: dict[str, Path]
    reports: dict[str, Report] = field(default_factory=dict)
    joint_error_torsos: dict[str, float] = field(default_factory=dict)
    notices: list[Notice] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return {
            "frames": self.film.frames,
            "size": list(self.film.size),
            "joint_error_torsos": self.joint_error_torsos,
            "reports": {name: report.to_dict() for name, report in self.reports.items()},
            "where_the_dancer_loses": {n: where_it_loses(r, ev.DANCER) for n, r in self.reports.items()},
            "notices": [str(n) for n in self.notices],
            "seconds": self.seconds,
            "peak_memory_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6,
            "files": {name: str(path) for name, path in self.files.items()},
        }


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
    source_poses = poses_of(source, out / "source" / "poses.parquet", recipe)
    clock.lap("poses")
    bundle = train_dancer(target, recipe, target_path.stem, out / "target", out / "dancer")
    clock.lap("training")
    made = render_film_of(bundle, source, source_poses, out, recipe)
    clock.lap("rendering")
    outcome = Outcome(made, {"film": made.path, "dancer": out / "dancer"}, seconds=clock.seconds)
    outcome.notices = [*target.video.notices, *target.poses.notices, *source.notices, *made.notices]
    truth = measure_synthetic(outcome, bundle, target, source_poses, out, recipe) if synthetic else None
    if not synthetic:
        measure_footage(outcome, bundle, target, source_poses)
    record_metrics(out / "dancer", {name: means(report) for name, report in outcome.reports.items()})
    clock.lap("measuring")
    outcome.files["side_by_side"] = write_side_by_side(bundle, source, source_poses, made, out, recipe)
    outcome.files["sheet"] = write_sheet(bundle, source, source_poses, made, truth, out, recipe)
    clock.lap("pictures")
    outcome.files["report"] = out / "report.json"
    with published(outcome.files["report"]) as partial:
        partial.write_text(json.dumps(outcome.to_dict(), indent=2) + "\n")
    return outcome


def film_performers(folder: Path, recipe: Recipe) -> tuple[Path, Path]:
    """Film the two drawn performers, and the target in dances that it is not trained on."""
    scenes = {"target": TARGET_TRAINING, "target_test": TARGET_TEST, "source": SOURCE}
    for name, scene in scenes.items():
        write_scene(scene, folder / f"{name}.mp4", recipe.video)
    return folder / "target.mp4", folder / "source.mp4"


def poses_of(video: Video, out: Path, recipe: Recipe) -> PoseSequence:
    """Poses of a video in a file, with progress."""
    with progress(f"poses of {video.path.name}", video.frames) as advance:
        return extract_to(video.path, out, recipe.video, recipe.pose, advance)


def render_film_of(bundle: Bundle, source: Video, poses: PoseSequence, out: Path, recipe: Recipe) -> Film:
    """`dance.mp4`, with progress."""
    with progress("rendering dance.mp4", len(poses)) as advance:
        marks = film_metadata(bundle.dancer)
        return render_film(bundle, source, poses, out / "dance.mp4", recipe.video, marks, advance)


def measure_synthetic(
    outcome: Outcome, bundle: Bundle, target: Target, source_poses: PoseSequence, out: Path, recipe: Recipe
) -> NDArray[np.uint8]:
    """Joint errors, the target's own dances that were never trained on, and the transfer; returns its true frames."""
    redetect, lpips = ev.redetector(recipe.pose), ev.perceptual_metric()
    test = probe(out / "footage" / "target_test.mp4", recipe.video)
    test_poses = poses_of(test, out / "test" / "poses.parquet", recipe)
    true = {"target": TARGET_TRAINING.poses(), "target_test": TARGET_TEST.poses(), "source": SOURCE.poses()}
    found = {"target": target.poses, "target_test": test_poses, "source": source_poses}
    outcome.joint_error_torsos = {name: joint_error_torsos(found[name], true[name]) for name in true}

    own = ev.renditions(bundle, target, test_poses, "the target's own new dances")
    frames = ev.filled(read_frames(test))
    outcome.reports["own motion"] = ev.score(own, true["target_test"], frames, redetect, lpips, "own motion")

    stats = RetargetStats.of(true["source"]), RetargetStats.of(true["target"])
    truth = retarget(true["source"], *stats, recipe.retarget, bundle.dancer.frame_size)
    true_frames = np.stack(list(drawn(TARGET_TRAINING, truth)))
    danced = ev.renditions(bundle, target, as_danced_by(bundle, source_poses), "the source's dance")
    outcome.reports["transfer"] = ev.score(danced, truth, true_frames, redetect, lpips, "the transfer")
    return true_frames


def measure_footage(outcome: Outcome, bundle: Bundle, target: Target, source_poses: PoseSequence) -> None:
    """The held-out block of the target, and the poses of the transfer: it has no true pixels."""
    recipe = bundle.dancer.recipe
    redetect, lpips = ev.redetector(recipe.pose), ev.perceptual_metric()
    poses, frames = ev.held_out(target)
    own = ev.renditions(bundle, target, poses, "the held-out block")
    outcome.reports["held-out block"] = ev.score(own, poses, frames, redetect, lpips, "the held-out block")
    danced_poses = as_danced_by(bundle, source_poses)
    danced = ev.renditions(bundle, target, danced_poses, "the source's dance")
    outcome.reports["transfer"] = ev.score(danced, danced_poses, None, redetect, None, "the transfer")


def joint_error_torsos(found: PoseSequence, true: PoseSequence) -> float:
    """Mean distance of found from true joints over all frames and keypoints, in torso lengths of the true dancer."""
    return float(np.nanmean(pose_distance_px(true.xy, true.score, found.xy, found.score)) / torso_px(true))


def write_side_by_side(
    bundle: Bundle, source: Video, poses: PoseSequence, made: Film, out: Path, recipe: Recipe
) -> Path:
    """`side_by_side.mp4`: source, figure, result, frame for frame, with sound."""
    path, result = out / "side_by_side.mp4", probe(made.path, recipe.video)
    danced = as_danced_by(bundle, poses)

    def montage() -> Iterator[NDArray[np.uint8]]:
        shown = figures(bundle, danced, Chunk(0, len(danced)))
        last = np.zeros((source.height, source.width, 3), np.uint8)
        with progress("side_by_side.mp4", len(danced)) as advance:
            for frame, figure, picture in zip(read_frames(source), shown, read_frames(result), strict=True):
                last = last if frame is None else frame
                assert picture is not None
                yield beside([last, bundle.fit.to_frame(figure), picture])
                advance(1)

    audio = made.path if source.audio_codec else None
    encoding, marks = recipe.video, film_metadata(bundle.dancer)
    write_film(path, montage(), poses.fps, crf=encoding.crf, speed=encoding.speed, audio_from=audio, metadata=marks)
    return path


def write_sheet(
    bundle: Bundle,
    source: Video,
    poses: PoseSequence,
    made: Film,
    truth: NDArray[np.uint8] | None,
    out: Path,
    recipe: Recipe,
) -> Path:
    """`sheet.png`: rows source, figure, result, and the truth where it is known."""
    danced = as_danced_by(bundle, poses)
    columns = np.linspace(0.05 * len(poses), 0.95 * (len(poses) - 1), _SHEET_COLUMNS).round().astype(int).tolist()
    drawn = [next(figures(bundle, danced, Chunk(t, t + 1))) for t in columns]
    rows: dict[str, list[NDArray[np.uint8] | None]] = {
        "source": list(read_frame_at(source, columns)),
        "figure": [bundle.fit.to_frame(figure) for figure in drawn],
        "result": list(read_frame_at(probe(made.path, recipe.video), columns)),
    }
    if truth is not None:
        rows["truth"] = [truth[t] for t in columns]
    sheet = contact_sheet(list(rows.values()), list(rows))
    with published(out / "sheet.png") as partial:
        cv2.imwrite(str(partial), sheet[..., ::-1])
    return out / "sheet.png"
