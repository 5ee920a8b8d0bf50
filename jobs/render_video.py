"""`python jobs/render_video.py --dancer models:/dancer-NAME@champion --source S.mp4 --out FILM.mp4`: one film."""

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
from cluster.rendering.single import render_with


def render_video(
    dancer: Annotated[str, typer.Option(help="models:/dancer-NAME@champion, models:/dancer-NAME/3, or a folder.")],
    source: Annotated[str, typer.Option(help="A video of somebody dancing. Local or s3://.")],
    out: Annotated[str, typer.Option(help="MP4 to write. Local or s3://.")],
    recipe: Annotated[
        Path | None, typer.Option(help="TOML file: its video, pose and retarget go over what the dancer has.")
    ] = None,
    registry: Annotated[
        str | None, typer.Option(help="MLflow server; default: $MLFLOW_TRACKING_URI, else SQLite in the storage.")
    ] = None,
    storage: StorageOption = STORAGE,
) -> None:
    """Render a dancer out of the registry dancing the dance of a video. What it renders is synthetic: say so.

    Exit code: 0 done, 1 something is at fault, and is named.
    """
    if registry is not None:
        os.environ["MLFLOW_TRACKING_URI"] = registry
    film = render_with(dancer, source, lasting(out), storage, recipe)
    for notice in film.notices:
        typer.echo(f"warning: {notice}", err=True)
    typer.echo(f"{out}: {film.frames} frames, {film.size[0]}x{film.size[1]} px, synthetic")


if __name__ == "__main__":
    run_job(render_video)
