"""The command line's verbs as plain functions, with progress."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from dancedist import weights
from dancedist.bundle.bundle import Bundle, load_bundle
from dancedist.bundle.provenance import film_metadata
from dancedist.data.suitability import TargetReport, assess, require_fit, sample_frames
from dancedist.errors import FileInvalid
from dancedist.evaluation import evaluation as ev
from dancedist.evaluation.report import Report
from dancedist.pose.extract import extract, extract_with_progress
from dancedist.pose.sequence import PoseSequence
from dancedist.progress import progress
from dancedist.recipe import Recipe, altered
from dancedist.render.film import Film, render_film
from dancedist.training.target import Target, listed_paths, load_target, train_dancer
from dancedist.video.concat import identity
from dancedist.video.probe import Video, probe
from dancedist.weights.catalogue import Weights

__all__ = ["evaluate", "fetch_weights", "find_poses", "known_weights", "look_at", "render", "require_fit", "train"]

# Weights that belong together.
GROUPS = {"evaluation": ("lpips-alexnet",), "quick": ("lpips-alexnet", "vgg16")}


def look_at(video: Path, recipe: Recipe, as_target: bool) -> tuple[Video, TargetReport | None]:
    """What a file holds, and whether it will do as a target."""
    found = probe(video, recipe.video)
    if not as_target:
        return found, None
    with progress(f"poses of {video.name}", found.frames) as advance:
        poses = extract(found, recipe.pose, advance)
    return found, assess(found, poses, sample_frames(found), recipe.data)


def find_poses(video: Path, out: Path, recipe: Recipe) -> PoseSequence:
    """Poses of a video in a Parquet file."""
    found = probe(video, recipe.video)
    return extract_with_progress(found, out, recipe.pose)


def train(
    videos: Path | Sequence[Path], out: Path, name: str, recipe: Recipe, begin_with: Path | None = None
) -> tuple[Target, Bundle]:
    """Train a dancer; works in `out`/target, leaves the bundle in `out`/dancer.

    Several videos are one target. `begin_with`: the bundle of another dancer, whose weights it begins with.
    """
    first = None if begin_with is None else load_bundle(begin_with)
    target = load_target(videos, recipe, out / "target")
    bundle = train_dancer(target, recipe, name, out / "target", out / "dancer", first)
    return target, ev.look_over(out / "dancer", bundle, target)


def render(dancer: Path, source: Path, out: Path, recipe_file: Path | None = None) -> Film:
    """Render a source with a dancer; poses are found as for the dancer's own, but for what the recipe's file says."""
    bundle = load_bundle(dancer)
    if recipe_file is not None:
        recipe = altered(bundle.dancer.recipe, recipe_file, ("video", "pose", "retarget"))
        bundle = replace(bundle, dancer=bundle.dancer.model_copy(update={"recipe": recipe}))
    recipe = bundle.dancer.recipe
    video = probe(source, recipe.video)
    with progress(f"poses of {source.name}", video.frames) as advance:
        poses = extract(video, recipe.pose, advance)
    with progress(f"rendering {out.name}", len(poses)) as advance:
        return render_film(bundle, video, poses, out, recipe.video, film_metadata(bundle.dancer), advance)


def evaluate(dancer: Path, target_videos: Path | Sequence[Path], work: Path) -> Report:
    """A dancer on its target's test block. Raises FileInvalid for other films than it was trained on."""
    videos = listed_paths(target_videos)
    bundle = load_bundle(dancer)
    made = bundle.dancer.provenance
    name, got = identity(videos)
    if got != made.video_sha256:
        expected = f"{made.video}, sha256 {made.video_sha256[:16]}"
        raise FileInvalid("is not what the dancer was trained on", file=name, expected=expected, got=got[:16])
    return ev.held_out_report(bundle, load_target(videos, bundle.dancer.recipe, work))


def fetch_weights(name: str) -> None:
    """Fetch weights, or a group of them, into the cache. Raises WeightsMissing."""
    for entry in GROUPS.get(name, (name,)):
        weights.ensure(entry)


def known_weights() -> Iterator[tuple[Weights, str | None]]:
    """Every entry, and where its file is."""
    for entry in weights.entries():
        found = weights.find(entry.name)
        yield entry, None if found is None else str(found)
