"""`python jobs/evaluate_dancers.py --ablation`: the paper's tables 1-4, by recipes that are trained for it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markdown import Markdown

# `python jobs/x.py` puts jobs/ first on the path, not the repository.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from cluster.core.entry import run_job
from cluster.core.session import connected, lasting
from cluster.core.settings import STORAGE, StorageOption
from cluster.evaluation.comparison import compare_ablation, compare_dancers
from dancedist.errors import RecipeInvalid
from dancedist.evaluation.report import table
from dancedist.recipe import load_recipe


def evaluate_dancers(
    dancers: Annotated[
        list[str] | None, typer.Argument(metavar="[DANCER]...", help="Bundles or models:/dancer-NAME@ALIAS to compare.")
    ] = None,
    target: Annotated[
        list[str] | None, typer.Option(help="The video (or videos) that they were trained on; default: a drawn one.")
    ] = None,
    ablation: Annotated[bool, typer.Option("--ablation", help="Train frame by frame, + temporal, + face.")] = False,
    storage: StorageOption = STORAGE,
    out: Annotated[Path, typer.Option(help="Folder for ablation.md, .json and .png.")] = Path("runs/ablation"),
    preset: Annotated[str, typer.Option(help="The recipe that is taken apart.")] = "quick",
    recipe: Annotated[Path | None, typer.Option(help="TOML file with settings over the preset's.")] = None,
    steps: Annotated[int, typer.Option(min=20, help="Steps of every row, all stages together.")] = 2000,
    seeds: Annotated[int, typer.Option(min=1, help="Trainings of every row.")] = 3,
) -> None:
    """Measure dancers on frames they never saw, beside the nearest training frame. Run again, nothing is trained twice.

    Exit code: 0 done, 1 what was to be measured is not there or could not be trained.
    """
    place = lasting(storage)
    if not ablation:
        if not dancers or not target:
            raise RecipeInvalid("nothing to compare", expected="DANCER... and --target VIDEO, or --ablation")
        Console().print(table(compare_dancers(dancers, target, place)))
        return
    with connected():
        told = compare_ablation(target or [], load_recipe(preset, recipe), steps, seeds, place, out)
    Console().print(Markdown(told))


if __name__ == "__main__":
    run_job(evaluate_dancers)
