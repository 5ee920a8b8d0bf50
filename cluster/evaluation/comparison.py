"""Dancers, and the parts of the method, measured side by side."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from cluster.evaluation.ablation import ROWS, run_ablation
from cluster.evaluation.held_out import compare
from cluster.storage.base import open_storage, split_uri
from cluster.storage.download_cache import cache_folder, fetched_now
from cluster.tracking.registry import fetch_dancer
from cluster.training.fleet_file import absolute
from cluster.training.placement import Need
from dancedist.bundle.bundle import load_bundle
from dancedist.errors import RecipeInvalid
from dancedist.evaluation.ablation import to_markdown, write_ablation
from dancedist.evaluation.report import Report
from dancedist.recipe import Recipe, fingerprint
from dancedist.synthetic import TARGET_TRAINING
from dancedist.synthetic.films import write_scene

DRAWN = "drawn"


def compare_ablation(videos: Sequence[str], recipe: Recipe, steps: int, seeds: int, storage_uri: str, out: Path) -> str:
    """Train and measure the ablation, leave ablation.md, .json and .png in `out`; returns the Markdown.

    Without `videos` it is about a drawn performer. Raises AblationIncomplete, and what train_fleet does.
    """
    uris = [absolute(video, Path.cwd()) for video in videos] or [_drawn(storage_uri, recipe)]
    name = Path(uris[0]).stem if videos else DRAWN
    values, rows = run_ablation(name, uris, recipe, Need(), steps, seeds, storage_uri)
    minutes = {
        place: [row.minutes or 0 for row in rows if f"-{place}-seed" in row.target] for place in range(len(ROWS))
    }
    spent = ", ".join(f"{row} {sum(m) / len(m):.1f}" for row, m in zip(ROWS, minutes.values(), strict=True))
    about = f"Ablation on {name}: {steps} steps a row, {seeds} seeds, mean ± deviation. Minutes of training: {spent}."
    write_ablation(values, about, out)
    return to_markdown(values, about)


def compare_dancers(dancers: Sequence[str], videos: Sequence[str], storage_uri: str) -> Report:
    """Every dancer on the frames of its video that all of them left out. Raises FileInvalid, DancerUnknown."""
    if len(videos) > 1:
        raise RecipeInvalid("several videos cannot be compared yet", expected="one --target", got=str(len(videos)))
    with TemporaryDirectory(prefix="dancedist-") as scratch:
        folders = {d: fetch_dancer(d, Path(scratch) / str(i), storage_uri) for i, d in enumerate(dancers)}
        bundles = {dancer: load_bundle(folder) for dancer, folder in folders.items()}
        cache_gb = next(iter(bundles.values())).dancer.recipe.extraction.cache_gb
        return compare(bundles, fetched_now(videos[0], cache_gb), cache_folder("comparison"))


def _drawn(storage_uri: str, recipe: Recipe) -> str:
    """A film of the drawn target in the storage, made once."""
    uri = f"{storage_uri}/films/{fingerprint(recipe.video.crf, recipe.video.speed)}/{DRAWN}.mp4"
    place, name = split_uri(uri)
    store = open_storage(place)
    if store.stat(name) is None:
        with TemporaryDirectory(prefix="dancedist-") as scratch:
            write_scene(TARGET_TRAINING, Path(scratch) / name, recipe.video)
            store.upload(Path(scratch) / name, name)
    return uri
