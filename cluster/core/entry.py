"""Entry point of every job: logging, and user errors as one line."""

from __future__ import annotations

import sys
from collections.abc import Callable

import typer

from cluster.core import logs
from dancedist.errors import DancedistError


def run_job(job: Callable[..., None]) -> None:
    """Run a job's function with the command line's arguments; a DancedistError is printed as one line, exit code 1."""
    try:
        logs.configure()
        typer.run(job)
    except DancedistError as error:
        sys.stderr.write(f"{job.__name__}: {error} [{error.slug}]\n")
        raise SystemExit(1) from None
