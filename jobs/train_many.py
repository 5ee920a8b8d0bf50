"""`ray job submit --working-dir . -- python jobs/train_many.py`: every dancer of a fleet, as versions in MLflow."""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

# `python jobs/x.py` puts jobs/ first on the path, not the repository.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from cluster.core.entry import run_job
from cluster.core.session import connected, lasting
from cluster.core.settings import FLEET, STORAGE, FleetOption, StorageOption
from cluster.training.fleet import train_fleet
from cluster.training.fleet_file import read_fleet
from cluster.training.status import exit_code, fleet_table


def train_many(
    fleet: FleetOption = FLEET,
    storage: StorageOption = STORAGE,
    begin_with: Annotated[
        str | None, typer.Option("--from", help="models:/dancer-NAME@champion or a bundle: weights to begin with.")
    ] = None,
    attempts: Annotated[int, typer.Option(min=1, help="A target that fails so often is given up.")] = 3,
    back_off_s: Annotated[
        float, typer.Option(min=0, help="Seconds before the second attempt, doubled each time.")
    ] = 30,
) -> None:
    """Train every target of a fleet; each is a version of dancer-NAME in MLflow. Run again, it goes on where it was.

    Exit code: 0 all done, 3 some failed (fleet.json says why), 1 the job could not go on, 130 stopped.
    """
    targets, place = read_fleet(fleet), lasting(storage)
    with connected():
        rows = train_fleet(targets, place, fleet.stem, begin_with, attempts, back_off_s)
    Console(width=200 if not sys.stdout.isatty() else None).print(fleet_table(rows))
    raise typer.Exit(exit_code(rows))


def _stop(*_: object) -> None:
    # `ray job stop` asks so; the fleet stops as it does for Ctrl-C.
    raise KeyboardInterrupt


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, _stop)
    run_job(train_many)
