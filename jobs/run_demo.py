"""`python jobs/run_demo.py`: the whole system on this machine alone, from two drawn performers to their films."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

# `python jobs/x.py` puts jobs/ first on the path, not the repository.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from cluster.core.entry import run_job
from cluster.core.session import lasting
from cluster.demo import FACE_STEPS, STEPS, Shown, demonstrate
from cluster.training.status import fleet_table


def run_demo(
    out: Annotated[str, typer.Option(help="Folder to write.")] = "runs/demo",
    steps: Annotated[int, typer.Option(min=1, help="Of the generator, for each dancer.")] = STEPS,
    face_steps: Annotated[int, typer.Option(min=1, help="Of the face's network.")] = FACE_STEPS,
) -> None:
    """Film two drawn performers, learn both at once (Ray Train), register them (MLflow), serve them (Ray Serve).

    Each then dances the other's dance, asked for over HTTP. Run again, it goes on where it was.
    """
    os.environ.setdefault("RAY_ADDRESS", "local")
    place = Path(lasting(out))
    shown = demonstrate(place, steps, face_steps)
    console = Console(width=200 if not sys.stdout.isatty() else None)
    console.print(fleet_table(shown.fleet))
    console.print(films_table(shown, place))
    console.print("  ".join(f"{stage} {seconds:.0f} s" for stage, seconds in shown.seconds.items()))
    console.print(f"\nBoth on a page: DANCEDIST_STORAGE={out} make serve")


def films_table(shown: Shown, place: Path) -> Table:
    """What the service made."""
    drawn = Table("film", "frames", "chunks", "lowest seam", "s", "", box=None, pad_edge=False, header_style="bold")
    for dancer, told in shown.films.items():
        lowest = min((seam["psnr_db"] for seam in told["seams"]), default=None)
        seam = "-" if lowest is None else f"{lowest:.1f} dB"
        seconds = f"{sum(told['timings_s'].values()):.0f}"
        file = str(place / "films" / dancer / "side_by_side.mp4")
        # A film that was found has none.
        chunks = str(len(told["chunks"]) or "-")
        drawn.add_row(dancer, str(told["result"]["frames"]), chunks, seam, seconds, file)
    return drawn


if __name__ == "__main__":
    run_job(run_demo)
