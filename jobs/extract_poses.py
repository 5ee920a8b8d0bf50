"""`ray job submit --working-dir . -- python jobs/extract_poses.py INPUT... --output URI`: poses of many videos."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

if not __package__:  # run as a script: the repository is not yet on the path
    import _path  # type: ignore[import-not-found]  # noqa: F401

from cluster.core.entry import run_job
from cluster.core.session import ray_session
from cluster.poses.extraction import run_extraction
from cluster.storage.open import durable_uri
from dancedist.recipe.loading import load_recipe


def extract_poses(
    inputs: Annotated[
        list[str],
        typer.Argument(
            metavar="INPUT...",
            help="Videos: files, folders, globs, or a manifest (CSV, JSON lines, Parquet with uri and name). Local or s3://.",
        ),
    ],
    output: Annotated[
        str,
        typer.Option(help="Folder or s3://bucket/prefix for poses/, stats.parquet, errors.parquet and summary.json."),
    ],
    recipe: Annotated[
        Path | None, typer.Option(help="TOML file with the tables pose, video, extraction and retarget.")
    ] = None,
    workers: Annotated[
        int, typer.Option(min=0, help="Processes that detect people. 0: the recipe's number, or as many as fit.")
    ] = 0,
    strict: Annotated[bool, typer.Option("--strict", help="Stop at the first video that fails.")] = False,
    retarget_to: Annotated[
        str | None,
        typer.Option(metavar="STATS[#NAME]", help="A target's stats.parquet; all poses are normalised to it."),
    ] = None,
) -> None:
    """Extract one dancer's poses from each of many videos, on all nodes. Run it again to resume.

    Exit code: 0 all done, 3 some failed (one row each in errors.parquet), 1 the job failed.
    S3 needs AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY in the environment of every node.
    """
    with ray_session():
        summary, failures = run_extraction(
            inputs,
            durable_uri(output),
            load_recipe("paper", recipe),
            workers=workers,
            strict=strict,
            retarget_to=retarget_to,
        )
    for failure in failures[:20]:
        typer.echo(f"{failure.name}: {failure.message} [{failure.slug}]", err=True)
    typer.echo(
        f"{output}: {summary.done} of {summary.videos} videos ({summary.found_done} found done), "
        f"{summary.frames} frames; segments: {summary.segments_computed} computed, "
        f"{summary.segments_found_done} found done; {summary.failed} failed, {len(summary.warnings)} warnings, "
        f"{summary.seconds['wall']:.0f} s"
    )
    raise typer.Exit(3 if failures else 0)


if __name__ == "__main__":
    run_job(extract_poses)
