"""`python jobs/promote_dancer.py NAME --target VIDEO`: make the candidate the champion if it is better."""

from __future__ import annotations

import os
from typing import Annotated

import typer
from rich.console import Console

if not __package__:  # run as a script: the repository is not yet on the path
    import _path  # type: ignore[import-not-found]  # noqa: F401

from cluster.core.entry import run_job
from cluster.core.settings import STORAGE, StorageOption
from cluster.evaluation.promotion import promote
from dancedist.evaluation.report import table

KEPT = 4


def promote_dancer(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The dancer's name; its model is dancer-NAME.")],
    target: Annotated[str, typer.Option(help="Video that both were trained on. Local or s3://.")],
    registry: Annotated[
        str | None, typer.Option(help="MLflow server. Default: $MLFLOW_TRACKING_URI, else SQLite in the storage.")
    ] = None,
    storage: StorageOption = STORAGE,
) -> None:
    """Measure a dancer's candidate and champion on the same held-out frames; promote a better candidate.

    Exit code: 0 promoted, 4 the champion is kept, 1 they could not be compared.
    """
    if registry is not None:
        os.environ["MLFLOW_TRACKING_URI"] = registry
    promotion = promote(name, target, storage)
    if promotion.report is not None:
        Console().print(table(promotion.report))
    result = "promoted" if promotion.verdict.better else "kept the champion"
    typer.echo(
        f"dancer-{name}: {result} (candidate: version {promotion.candidate.number}, "
        f"champion: version {promotion.champion.number}): {promotion.verdict.why}"
    )
    raise typer.Exit(0 if promotion.verdict.better else KEPT)


if __name__ == "__main__":
    run_job(promote_dancer)
