"""`ray job submit --working-dir . -- python jobs/extract_poses.py INPUT... --output URI`: poses of many videos."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

# `python jobs/x.py` puts jobs/ first on the path, not the repository.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from cluster.core.entry import run_job
from cluster.core.session import connected, lasting
from cluster.poses.extraction import run_extraction
from dancedist.recipe import load_recipe


def extract_poses(
    inputs: Annotated[
        list[str],
        typer.Argument(
            metavar="INPUT...",
            help="Videos: files, folders, globs, or a manifest (CSV, JSON lines, Parquet with uri and name). Local or s3://.",
        ),
    ],
    output: Annotated[str, typer.Option(help="Folder or s3://bucket/prefix for poses/, stats, errors, summary.json.")],
    recipe: Annotated[Path | None, typer.Option(help="TOML file: pose, video, extraction, retarget.")] = None,
    workers: Annotated[int, typer.Option(min=0, help="Processes that find people. 0: the recipe's, or what fits.")] = 0,
    strict: Annotated[bool, typer.Option("--strict", help="End at the first video that fails.")] = False,
    retarget_to: Annotated[
        str | None, typer.Option(metavar="STATS[#NAME]", help="A target's stats.parquet: normalise all poses to it.")
    ] = None,
) -> None:
    """Find one dancer's poses in each of many videos, on all nodes. Run again, it goes on where it was.

    Exit code: 0 all done, 3 some failed (errors.parquet has one row each), 1 the job could not go on.
    S3 needs AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY in the environment of every node.
    """
    with connected():
        summary, faults = run_extraction(
            inputs,
            lasting(output),
            load_recipe("paper", recipe),
            workers=workers,
            strict=strict,
            retarget_to=retarget_to,
        )
    for fault in faults[:20]:
        typer.echo(f"{fault.name}: {fault.message} [{fault.slug}]", err=True)
    typer.echo(
        f"{output}: {summary.done} of {summary.videos} videos ({summary.found_done} found done), "
        f"{summary.frames} frames; segments: {summary.segments_computed} computed, "
        f"{summary.segments_found_done} found done; {summary.failed} failed, {len(summary.warnings)} warnings, "
        f"{summary.seconds['wall']:.0f} s"
    )
    raise typer.Exit(3 if faults else 0)


if __name__ == "__main__":
    run_job(extract_poses)
