"""The commands of the command line as plain functions, with progress bars."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from dancedist import weights
from dancedist.bundle.bundle import Bundle, load_bundle
from dancedist.bundle.provenance import film_metadata
from dancedist.data.suitability import TargetReport, assess, require_suitable, sample_frames
from dancedist.data.target import Target, load_target, path_list
from dancedist.errors import FileInvalid
from dancedist.evaluation.held_out import held_out_report
from dancedist.evaluation.report import Report
from dancedist.evaluation.settling import measure_settling
from dancedist.pose.extract import extract, extract_with_progress
from dancedist.pose.sequence import PoseSequence
from dancedist.progress import progress
from dancedist.recipe.loading import override_recipe
from dancedist.recipe.schema import Recipe
from dancedist.render.film import Film, render_film
from dancedist.training.target import train_dancer
from dancedist.video.concat import identity
from dancedist.video.probe import Video, probe
from dancedist.weights.catalogue import Weights

__all__ = [
    "evaluate",
    "fetch_weights",
    "find_poses",
    "known_weights",
    "probe_video",
    "render",
    "require_suitable",
    "train",
]

# Names of groups of weights, for `dancedist weights --fetch`.
GROUPS = {"evaluation": ("lpips-alexnet",), "quick": ("lpips-alexnet", "vgg16")}


def probe_video(video: Path, recipe: Recipe, as_target: bool) -> tuple[Video, TargetReport | None]:
    """Probe a video and, with `as_target`, check whether a dancer can be trained on it."""
    probed = probe(video, recipe.video)
    if not as_target:
        return probed, None
    with progress(f"poses of {video.name}", probed.frames) as advance:
        poses = extract(probed, recipe.pose, advance)
    return probed, assess(probed, poses, sample_frames(probed), recipe.data)


def find_poses(video: Path, out: Path, recipe: Recipe) -> PoseSequence:
    """Extract the poses of a video into a Parquet file."""
    return extract_with_progress(probe(video, recipe.video), out, recipe.pose)


def train(
    videos: Path | Sequence[Path], out: Path, name: str, recipe: Recipe, initial: Path | None = None
) -> tuple[Target, Bundle]:
    """Train a dancer; works in `out`/target and writes the bundle to `out`/dancer.

    Several videos are one target. `initial`: the bundle of another dancer, for initial weights.
    """
    initial_bundle = None if initial is None else load_bundle(initial)
    target = load_target(videos, recipe, out / "target")
    bundle = train_dancer(target, recipe, name, out / "target", out / "dancer", initial_bundle)
    return target, measure_settling(out / "dancer", bundle, target)


def render(dancer: Path, source: Path, out: Path, recipe_file: Path | None = None) -> Film:
    """Render a source with a dancer.

    Poses are extracted with the dancer's own recipe, except for the settings in `recipe_file`.
    """
    bundle = load_bundle(dancer)
    if recipe_file is not None:
        recipe = override_recipe(bundle.dancer.recipe, recipe_file, ("video", "pose", "retarget"))
        bundle = replace(bundle, dancer=bundle.dancer.model_copy(update={"recipe": recipe}))
    recipe = bundle.dancer.recipe
    video = probe(source, recipe.video)
    with progress(f"poses of {source.name}", video.frames) as advance:
        poses = extract(video, recipe.pose, advance)
    with progress(f"rendering {out.name}", len(poses)) as advance:
        return render_film(bundle, video, poses, out, recipe.video, film_metadata(bundle.dancer), advance)


def evaluate(dancer: Path, target_videos: Path | Sequence[Path], work: Path) -> Report:
    """Score a dancer on its target's test block. Raises FileInvalid if it was trained on other videos."""
    videos = path_list(target_videos)
    bundle = load_bundle(dancer)
    provenance = bundle.dancer.provenance
    name, got = identity(videos)
    if got != provenance.video_sha256:
        expected = f"{provenance.video}, sha256 {provenance.video_sha256[:16]}"
        raise FileInvalid("is not what the dancer was trained on", file=name, expected=expected, got=got[:16])
    return held_out_report(bundle, load_target(videos, bundle.dancer.recipe, work))


def fetch_weights(name: str) -> None:
    """Download weights, or a group of them, into the cache. Raises WeightsMissing."""
    for entry in GROUPS.get(name, (name,)):
        weights.ensure(entry)


def known_weights() -> Iterator[tuple[Weights, str | None]]:
    """Every entry of the catalogue with the path of its file, None if it is not on this machine."""
    for entry in weights.entries():
        path = weights.find(entry.name)
        yield entry, None if path is None else str(path)
