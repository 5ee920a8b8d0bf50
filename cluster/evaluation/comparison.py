"""Compare dancers with each other, and the ablation's rows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from cluster.evaluation.ablation import ROWS, run_ablation
from cluster.evaluation.held_out import compare
from cluster.storage.download_cache import cache_folder, fetch_current
from cluster.storage.open import open_storage, split_uri
from cluster.tracking.registry import fetch_dancer
from cluster.training.fleet_file import absolute_uri
from cluster.training.placement import ResourceRequest
from dancedist.bundle.bundle import load_bundle
from dancedist.errors import RecipeInvalid
from dancedist.evaluation.ablation import to_markdown, write_ablation
from dancedist.evaluation.report import Report
from dancedist.recipe.fingerprint import fingerprint
from dancedist.recipe.schema import Recipe
from dancedist.synthetic import TARGET_TRAINING
from dancedist.synthetic.films import write_scene

DRAWN = "drawn"


def compare_ablation(videos: Sequence[str], recipe: Recipe, steps: int, seeds: int, storage_uri: str, out: Path) -> str:
    """Train and measure the ablation; writes ablation.md, .json and .png to `out`, and returns the Markdown.

    Without `videos` it uses the drawn performer. Raises AblationIncomplete, and the errors of train_fleet.
    """
    uris = [absolute_uri(video, Path.cwd()) for video in videos] or [_drawn(storage_uri, recipe)]
    name = Path(uris[0]).stem if videos else DRAWN
    values, rows = run_ablation(name, uris, recipe, ResourceRequest(), steps, seeds, storage_uri)
    minutes = {
        number: [row.minutes or 0 for row in rows if f"-{number}-seed" in row.target] for number in range(len(ROWS))
    }
    spent = ", ".join(f"{row} {sum(m) / len(m):.1f}" for row, m in zip(ROWS, minutes.values(), strict=True))
    about = f"Ablation on {name}: {steps} steps a row, {seeds} seeds, mean ± deviation. Minutes of training: {spent}."
    write_ablation(values, about, out)
    return to_markdown(values, about)


def compare_dancers(dancers: Sequence[str], videos: Sequence[str], storage_uri: str) -> Report:
    """Measure every dancer on the frames of their video that none was trained on.

    Raises FileInvalid, DancerUnknown, RecipeInvalid for more than one video.
    """
    if len(videos) > 1:
        raise RecipeInvalid(
            "comparing on several videos is not supported", expected="one --target", got=str(len(videos))
        )
    with TemporaryDirectory(prefix="dancedist-") as scratch:
        folders = {d: fetch_dancer(d, Path(scratch) / str(i), storage_uri) for i, d in enumerate(dancers)}
        bundles = {dancer: load_bundle(folder) for dancer, folder in folders.items()}
        cache_gb = next(iter(bundles.values())).dancer.recipe.extraction.cache_gb
        return compare(bundles, fetch_current(videos[0], cache_gb), cache_folder("comparison"))


def _drawn(storage_uri: str, recipe: Recipe) -> str:
    """URI of the drawn target's film in the storage; the film is made once."""
    uri = f"{storage_uri}/films/{fingerprint(recipe.video.crf, recipe.video.x264_preset)}/{DRAWN}.mp4"
    folder_uri, name = split_uri(uri)
    store = open_storage(folder_uri)
    if store.stat(name) is None:
        with TemporaryDirectory(prefix="dancedist-") as scratch:
            write_scene(TARGET_TRAINING, Path(scratch) / name, recipe.video)
            store.upload(Path(scratch) / name, name)
    return uri
