"""`python jobs/promote_dancer.py NAME --target VIDEO`: the better of candidate and champion is champion."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

# `python jobs/x.py` puts jobs/ first on the path, not the repository.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from cluster.core.entry import run_job
from cluster.core.settings import STORAGE, StorageOption
from cluster.evaluation.promotion import promote
from dancedist.evaluation.report import table

KEPT = 4


def promote_dancer(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The dancer's name; its model is dancer-NAME.")],
    target: Annotated[str, typer.Option(help="The video that both were trained on. Local or s3://.")],
    registry: Annotated[
        str | None, typer.Option(help="MLflow server; default: $MLFLOW_TRACKING_URI, else SQLite in the storage.")
    ] = None,
    storage: StorageOption = STORAGE,
) -> None:
    """Measure a dancer's candidate and champion on the same held-out frames; the champion gives way only if worse.

    Exit code: 0 promoted, 4 the champion is kept, 1 the two could not be compared.
    """
    if registry is not None:
        os.environ["MLFLOW_TRACKING_URI"] = registry
    done = promote(name, target, storage)
    if done.report is not None:
        Console().print(table(done.report))
    result = "promoted" if done.verdict.better else "kept the champion"
    typer.echo(
        f"dancer-{name}: {result} (candidate: version {done.candidate.number}, "
        f"champion: version {done.champion.number}): {done.verdict.why}"
    )
    raise typer.Exit(0 if done.verdict.better else KEPT)


if __name__ == "__main__":
    run_job(promote_dancer)
