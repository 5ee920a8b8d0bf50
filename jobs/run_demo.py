"""`python jobs/run_demo.py`: the whole system on one machine, from two synthetic performers to their films."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

if not __package__:  # run as a script: the repository is not yet on the path
    import _path  # type: ignore[import-not-found]  # noqa: F401

from cluster.core.entry import run_job
from cluster.demo import FACE_STEPS, STEPS, DemoResult, run_everything
from cluster.storage.open import durable_uri
from cluster.training.status import fleet_table


def run_demo(
    out: Annotated[str, typer.Option(help="Output folder.")] = "runs/demo",
    steps: Annotated[int, typer.Option(min=1, help="Training steps of each generator.")] = STEPS,
    face_steps: Annotated[int, typer.Option(min=1, help="Training steps of each face network.")] = FACE_STEPS,
) -> None:
    """Render two synthetic performers, train both (Ray Train), register them (MLflow) and serve them (Ray Serve).

    Each then performs the other's dance, requested over HTTP. Run it again to resume.
    """
    os.environ.setdefault("RAY_ADDRESS", "local")
    folder = Path(durable_uri(out))
    result = run_everything(folder, steps, face_steps)
    console = Console(width=200 if not sys.stdout.isatty() else None)
    console.print(fleet_table(result.fleet))
    console.print(films_table(result, folder))
    console.print("  ".join(f"{stage} {seconds:.0f} s" for stage, seconds in result.seconds.items()))
    console.print(f"\nTo see both in a browser: DANCEDIST_STORAGE={out} make serve")


def films_table(result: DemoResult, folder: Path) -> Table:
    """Table of the films that the service rendered."""
    table = Table("film", "frames", "chunks", "lowest seam", "s", "", box=None, pad_edge=False, header_style="bold")
    for dancer, render in result.films.items():
        lowest = min((seam["psnr_db"] for seam in render["seams"]), default=None)
        seam = "-" if lowest is None else f"{lowest:.1f} dB"
        seconds = f"{sum(render['timings_s'].values()):.0f}"
        file = str(folder / "films" / dancer / "side_by_side.mp4")
        # A film that an earlier run rendered has no chunks.
        chunks = str(len(render["chunks"]) or "-")
        table.add_row(dancer, str(render["result"]["frames"]), chunks, seam, seconds, file)
    return table


if __name__ == "__main__":
    run_job(run_demo)
