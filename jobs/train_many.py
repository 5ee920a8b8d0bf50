"""`ray job submit --working-dir . -- python jobs/train_many.py`: train all dancers of a fleet.toml."""

from __future__ import annotations

import signal
import sys
from typing import Annotated

import typer
from rich.console import Console

if not __package__:  # run as a script: the repository is not yet on the path
    import _path  # type: ignore[import-not-found]  # noqa: F401

from cluster.core.entry import run_job
from cluster.core.session import ray_session
from cluster.core.settings import FLEET, STORAGE, FleetOption, StorageOption
from cluster.storage.open import durable_uri
from cluster.training.fleet import train_fleet
from cluster.training.fleet_file import read_fleet
from cluster.training.status import exit_code, fleet_table


def train_many(
    fleet: FleetOption = FLEET,
    storage: StorageOption = STORAGE,
    begin_with: Annotated[
        str | None,
        typer.Option("--from", help="models:/dancer-NAME@champion or a bundle: initial weights (warm start)."),
    ] = None,
    attempts: Annotated[int, typer.Option(min=1, help="Failed attempts after which a target is given up.")] = 3,
    back_off_s: Annotated[
        float, typer.Option(min=0, help="Seconds before the second attempt, doubled each time.")
    ] = 30,
) -> None:
    """Train every target of a fleet; each becomes a version of dancer-NAME in MLflow. Run it again to resume.

    Exit code: 0 all done, 3 some failed (fleet.json says why), 1 the job failed, 130 stopped.
    """
    targets, storage_uri = read_fleet(fleet), durable_uri(storage)
    with ray_session():
        rows = train_fleet(targets, storage_uri, fleet.stem, begin_with, attempts, back_off_s)
    Console(width=200 if not sys.stdout.isatty() else None).print(fleet_table(rows))
    raise typer.Exit(exit_code(rows))


def _stop(*_: object) -> None:
    # `ray job stop` sends SIGTERM; handle it like Ctrl-C.
    raise KeyboardInterrupt


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, _stop)
    run_job(train_many)
