"""`python jobs/forget_dancer.py NAME --yes`: delete all data of a person; without --yes, only list it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

if not __package__:  # run as a script: the repository is not yet on the path
    import _path  # type: ignore[import-not-found]  # noqa: F401

from cluster.core.entry import run_job
from cluster.core.settings import STORAGE, StorageOption
from cluster.privacy.forget import forget
from cluster.storage.open import durable_uri
from serving.ops.forget import RenderEraser

NOT_REMOVED = 4


def forget_dancer(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The dancer's name; its model is dancer-NAME.")],
    yes: Annotated[bool, typer.Option("--yes", help="Delete the data, without asking again.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only list the data, as without --yes, but with exit code 0.")
    ] = False,
    footage: Annotated[
        list[str] | None, typer.Option(help="A video of this person outside of the storage, to be deleted as well.")
    ] = None,
    stopped: Annotated[
        bool,
        typer.Option(
            "--stopped", help="Proceed although MLflow lists the dancer as in training: that training was killed."
        ),
    ] = False,
    report: Annotated[
        Path | None, typer.Option(help="JSON file to write: data found, removed and kept, and what is left to do.")
    ] = None,
    registry: Annotated[
        str | None, typer.Option(help="MLflow server. Default: $MLFLOW_TRACKING_URI, else SQLite in the storage.")
    ] = None,
    storage: StorageOption = STORAGE,
) -> None:
    """Delete a person's data: footage, poses, trainings, versions, runs and renders. If interrupted, run it again.

    Exit code: 0 everything is deleted (or --dry-run), 4 nothing was removed because --yes is missing, 1 it failed.
    """
    if yes and dry_run:
        raise typer.BadParameter("--yes and --dry-run exclude each other")
    if registry is not None:
        os.environ["MLFLOW_TRACKING_URI"] = registry
    storage_uri = durable_uri(storage)
    result = forget(name, storage_uri, footage or (), [RenderEraser(storage_uri)], remove=yes, stopped=stopped)
    for line in result.lines():
        typer.echo(line)
    if report is not None:
        report.write_text(result.text())
    if not yes and not dry_run and result.found:
        typer.echo("nothing was removed; run with --yes to remove it", err=True)
        raise typer.Exit(NOT_REMOVED)


if __name__ == "__main__":
    run_job(forget_dancer)
