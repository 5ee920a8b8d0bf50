"""`python jobs/forget_dancer.py NAME --yes`: everything of a person goes; without --yes it is only shown."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

# `python jobs/x.py` puts jobs/ first on the path, not the repository.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from cluster.core.entry import run_job
from cluster.core.session import lasting
from cluster.core.settings import STORAGE, StorageOption
from cluster.privacy.forget import forget

NOT_REMOVED = 4


def forget_dancer(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The dancer's name; its model is dancer-NAME.")],
    yes: Annotated[bool, typer.Option("--yes", help="Remove it. Nothing is asked any more.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would go, as without --yes; exit code 0.")
    ] = False,
    footage: Annotated[
        list[str] | None, typer.Option(help="A video of this person outside of the storage that is to go too.")
    ] = None,
    stopped: Annotated[
        bool, typer.Option("--stopped", help="MLflow has this dancer as in training, but that was killed.")
    ] = False,
    report: Annotated[Path | None, typer.Option(help="JSON file for what was found, removed, kept and left.")] = None,
    registry: Annotated[
        str | None, typer.Option(help="MLflow server; default: $MLFLOW_TRACKING_URI, else SQLite in the storage.")
    ] = None,
    storage: StorageOption = STORAGE,
) -> None:
    """Delete a person: footage, poses, trainings, versions, runs and renders. Broken off, it is run again.

    Exit code: 0 all is gone (or --dry-run), 4 nothing was removed for want of --yes, 1 it could not be done.
    """
    if yes and dry_run:
        raise typer.BadParameter("--yes or --dry-run")
    if registry is not None:
        os.environ["MLFLOW_TRACKING_URI"] = registry
    told = forget(name, lasting(storage), footage or (), remove=yes, stopped=stopped)
    for line in told.lines():
        typer.echo(line)
    if report is not None:
        report.write_text(told.text())
    if not yes and not dry_run and told.found:
        typer.echo("nothing was removed: --yes removes it", err=True)
        raise typer.Exit(NOT_REMOVED)


if __name__ == "__main__":
    run_job(forget_dancer)
