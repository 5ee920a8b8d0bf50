"""Several dancers of one video side by side, on the frames that none of them was trained on."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from dancedist.bundle.bundle import Bundle
from dancedist.data.split import split_by_time
from dancedist.errors import FileInvalid
from dancedist.evaluation import evaluation as ev
from dancedist.evaluation.report import Report
from dancedist.pose.extract import extract_with_progress
from dancedist.pose.sequence import PoseSequence
from dancedist.progress import progress
from dancedist.recipe import file_sha256, fingerprint
from dancedist.render.film import render_frames
from dancedist.video.decode import read_frames
from dancedist.video.probe import Video, probe

LEAST_FRAMES = 8


def compare(bundles: Mapping[str, Bundle], video_path: Path, work: Path) -> Report:
    """Every metric of every bundle, and of the nearest training frame, on the frames that all of them left out.

    Each is rendered from poses as its own recipe finds them; the first one's are the truth, and its training frames
    those that the nearest is among. Poses found are kept in `work`. Raises FileInvalid for a video that one of them
    was not trained on, or too few frames left out by all.
    """
    _require_own(bundles, video_path)
    films = {name: probe(video_path, bundle.dancer.recipe.video) for name, bundle in bundles.items()}
    poses = {name: _poses(films[name], bundle, work) for name, bundle in bundles.items()}
    block = _left_out_by_all(bundles, films)
    shown: dict[str, ev.Rgb] = {}
    for name, bundle in bundles.items():
        with progress(f"rendering {name}", len(block)) as advance:
            danced = poses[name].slice(block.start, block.stop)
            shown[name] = ev.stacked(render_frames(bundle, danced, advance), len(block))
    first, bundle = next(iter(bundles.items()))
    film, true_poses = films[first], poses[first].slice(block.start, block.stop)
    train = split_by_time(film.frames, film.fps, bundle.dancer.recipe.data).train
    known = np.flatnonzero(poses[first].present[train.start : train.stop]) + train.start
    shown[ev.NEAREST] = ev.nearest_rendition(film, poses[first], known, true_poses)
    rendition = ev.Rendition(true_poses, shown)
    frames = ev.stacked(read_frames(film, block.start, block.stop), len(block))
    redetect = ev.redetector(bundle.dancer.recipe.pose)
    return ev.score(rendition, true_poses, frames, redetect, ev.perceptual_metric(), "the held-out block")


def _require_own(bundles: Mapping[str, Bundle], video_path: Path) -> None:
    sha256 = file_sha256(video_path)
    for name, bundle in bundles.items():
        made = bundle.dancer.provenance
        if made.video_sha256 != sha256:
            expected = f"{made.video}, sha256 {made.video_sha256[:16]}"
            raise FileInvalid(
                f"is not what the {name} was trained on", file=video_path, expected=expected, got=sha256[:16]
            )


def _poses(film: Video, bundle: Bundle, work: Path) -> PoseSequence:
    recipe = bundle.dancer.recipe
    key = fingerprint(bundle.dancer.provenance.video_sha256, recipe.video, recipe.pose)
    return extract_with_progress(film, work / f"{key}.parquet", recipe.pose)


def _left_out_by_all(bundles: Mapping[str, Bundle], films: Mapping[str, Video]) -> range:
    """The test blocks lie at the end; up to the evaluation's number of frames."""
    splits = [split_by_time(films[n].frames, films[n].fps, b.dancer.recipe.data) for n, b in bundles.items()]
    start = max(split.test.start for split in splits)
    stop = min(split.test.stop for split in splits)
    if stop - start < LEAST_FRAMES:
        raise FileInvalid(
            "has too few frames that all of them left out",
            expected=f"{LEAST_FRAMES} frames in every [data] test block",
            got=str(max(0, stop - start)),
        )
    return range(start, min(stop, start + ev.MAX_FRAMES))
