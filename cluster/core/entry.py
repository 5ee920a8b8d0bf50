"""How every job begins and ends: what it logs, and the user's faults in one line."""

from __future__ import annotations

import sys
from collections.abc import Callable

import typer

from cluster.core import logs
from dancedist.errors import DancedistError


def run_job(job: Callable[..., None]) -> None:
    """Run a job's function on the command line's arguments; a DancedistError is one line and exit code 1."""
    try:
        logs.begin()
        typer.run(job)
    except DancedistError as error:
        sys.stderr.write(f"{job.__name__}: {error} [{error.slug}]\n")
        raise SystemExit(1) from None
