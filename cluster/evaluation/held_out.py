"""Compare several dancers of one video, on the frames that none of them was trained on."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from dancedist.arrays import Rgb
from dancedist.bundle.bundle import Bundle
from dancedist.data.split import split_by_time
from dancedist.errors import FileInvalid
from dancedist.evaluation.frame_stack import stacked
from dancedist.evaluation.held_out import MAX_FRAMES
from dancedist.evaluation.measure import perceptual_metric, redetector, score_methods
from dancedist.evaluation.renditions import NEAREST, Rendition, nearest_rendition
from dancedist.evaluation.report import Report
from dancedist.files import file_sha256
from dancedist.pose.extract import extract_with_progress
from dancedist.pose.sequence import PoseSequence
from dancedist.progress import progress
from dancedist.recipe.fingerprint import fingerprint
from dancedist.render.film import render_frames
from dancedist.video.decode import read_frames
from dancedist.video.probe import Video, probe

MIN_FRAMES = 8


def compare(bundles: Mapping[str, Bundle], video_path: Path, work: Path) -> Report:
    """Every metric of every bundle, and of the nearest training frame, on the frames that all bundles left out.

    Each bundle is rendered from poses detected with its own recipe. The first bundle's poses are the ground truth, and
    its training frames are the candidates for the nearest frame. Detected poses are cached in `work`. Raises
    FileInvalid if a bundle was not trained on this video, or if all left out too few common frames.
    """
    _require_own(bundles, video_path)
    films = {name: probe(video_path, bundle.dancer.recipe.video) for name, bundle in bundles.items()}
    poses = {name: _poses(films[name], bundle, work) for name, bundle in bundles.items()}
    block = _left_out_by_all(bundles, films)
    frames_by_method: dict[str, Rgb] = {}
    for name, bundle in bundles.items():
        with progress(f"rendering {name}", len(block)) as advance:
            danced = poses[name].slice(block.start, block.stop)
            frames_by_method[name] = stacked(render_frames(bundle, danced, advance), len(block))
    first, bundle = next(iter(bundles.items()))
    film, true_poses = films[first], poses[first].slice(block.start, block.stop)
    train = split_by_time(film.frames, film.fps, bundle.dancer.recipe.data).train
    train_frames = np.flatnonzero(poses[first].present[train.start : train.stop]) + train.start
    frames_by_method[NEAREST] = nearest_rendition(film, poses[first], train_frames, true_poses)
    rendition = Rendition(true_poses, frames_by_method)
    frames = stacked(read_frames(film, block.start, block.stop), len(block))
    redetect = redetector(bundle.dancer.recipe.pose)
    return score_methods(rendition, true_poses, frames, redetect, perceptual_metric(), "the held-out block")


def _require_own(bundles: Mapping[str, Bundle], video_path: Path) -> None:
    sha256 = file_sha256(video_path)
    for name, bundle in bundles.items():
        provenance = bundle.dancer.provenance
        if provenance.video_sha256 != sha256:
            expected = f"{provenance.video}, sha256 {provenance.video_sha256[:16]}"
            raise FileInvalid(
                f"is not the video that the {name} was trained on", file=video_path, expected=expected, got=sha256[:16]
            )


def _poses(film: Video, bundle: Bundle, work: Path) -> PoseSequence:
    recipe = bundle.dancer.recipe
    key = fingerprint(bundle.dancer.provenance.video_sha256, recipe.video, recipe.pose)
    return extract_with_progress(film, work / f"{key}.parquet", recipe.pose)


def _left_out_by_all(bundles: Mapping[str, Bundle], films: Mapping[str, Video]) -> range:
    """Frames that are in every bundle's test block, at the end of the video; at most MAX_FRAMES."""
    splits = [split_by_time(films[n].frames, films[n].fps, b.dancer.recipe.data) for n, b in bundles.items()]
    start = max(split.test.start for split in splits)
    stop = min(split.test.stop for split in splits)
    if stop - start < MIN_FRAMES:
        raise FileInvalid(
            "has too few frames that all dancers left out",
            expected=f"{MIN_FRAMES} frames in every [data] test block",
            got=str(max(0, stop - start)),
        )
    return range(start, min(stop, start + MAX_FRAMES))
