"""`python jobs/evaluate_dancers.py --ablation`: compare trained dancers, or train and compare the paper's ablations."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markdown import Markdown

if not __package__:  # run as a script: the repository is not yet on the path
    import _path  # type: ignore[import-not-found]  # noqa: F401

from cluster.core.entry import run_job
from cluster.core.session import ray_session
from cluster.core.settings import STORAGE, StorageOption
from cluster.evaluation.comparison import compare_ablation, compare_dancers
from cluster.storage.open import durable_uri
from dancedist.errors import RecipeInvalid
from dancedist.evaluation.report import table
from dancedist.recipe.loading import load_recipe


def evaluate_dancers(
    dancers: Annotated[
        list[str] | None,
        typer.Argument(metavar="[DANCER]...", help="Dancers to compare: bundles or models:/dancer-NAME@ALIAS."),
    ] = None,
    target: Annotated[
        list[str] | None,
        typer.Option(help="Video or videos they were trained on. Default for --ablation: a synthetic one."),
    ] = None,
    ablation: Annotated[
        bool, typer.Option("--ablation", help="Train and compare three variants: frame by frame, + temporal, + face.")
    ] = False,
    storage: StorageOption = STORAGE,
    out: Annotated[Path, typer.Option(help="Output folder for ablation.md, .json and .png.")] = Path("runs/ablation"),
    preset: Annotated[str, typer.Option(help="Recipe that the variants are derived from.")] = "quick",
    recipe: Annotated[Path | None, typer.Option(help="TOML file with settings that override the preset.")] = None,
    steps: Annotated[int, typer.Option(min=20, help="Training steps of each variant, all stages together.")] = 2000,
    seeds: Annotated[int, typer.Option(min=1, help="Trainings of each variant, with different seeds.")] = 3,
) -> None:
    """Measure dancers on held-out frames, against the nearest training frame. A second run trains nothing twice.

    Exit code: 0 done, 1 a dancer or video is missing, or a training failed.
    """
    storage_uri = durable_uri(storage)
    if not ablation:
        if not dancers or not target:
            raise RecipeInvalid("nothing to compare", expected="DANCER... and --target VIDEO, or --ablation")
        Console().print(table(compare_dancers(dancers, target, storage_uri)))
        return
    with ray_session():
        markdown = compare_ablation(target or [], load_recipe(preset, recipe), steps, seeds, storage_uri, out)
    Console().print(Markdown(markdown))


if __name__ == "__main__":
    run_job(evaluate_dancers)
