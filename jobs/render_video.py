"""`python jobs/render_video.py --dancer models:/dancer-NAME@champion --source S.mp4 --out FILM.mp4`: render a film."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

if not __package__:  # run as a script: the repository is not yet on the path
    import _path  # type: ignore[import-not-found]  # noqa: F401

from cluster.core.entry import run_job
from cluster.core.settings import STORAGE, StorageOption
from cluster.rendering.single import render_film
from cluster.storage.open import durable_uri


def render_video(
    dancer: Annotated[
        str, typer.Option(help="models:/dancer-NAME@champion, models:/dancer-NAME/3, or a bundle folder.")
    ],
    source: Annotated[str, typer.Option(help="Source video: the dance to perform. Local or s3://.")],
    out: Annotated[str, typer.Option(help="MP4 to write. Local or s3://.")],
    recipe: Annotated[
        Path | None, typer.Option(help="TOML file whose tables video, pose and retarget override the dancer's.")
    ] = None,
    registry: Annotated[
        str | None, typer.Option(help="MLflow server. Default: $MLFLOW_TRACKING_URI, else SQLite in the storage.")
    ] = None,
    storage: StorageOption = STORAGE,
) -> None:
    """Render a registered dancer performing the dance of a source video. The result is synthetic: label it as such.

    Exit code: 0 done, 1 failed; the message says why.
    """
    if registry is not None:
        os.environ["MLFLOW_TRACKING_URI"] = registry
    film = render_film(dancer, source, durable_uri(out), storage, recipe)
    for notice in film.notices:
        typer.echo(f"warning: {notice}", err=True)
    typer.echo(f"{out}: {film.frames} frames, {film.size[0]}x{film.size[1]} px, synthetic")


if __name__ == "__main__":
    run_job(render_video)
