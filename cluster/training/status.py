"""Status of a fleet's targets: a row each, stored next to the training's output, shown as a table at the end."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from rich.table import Table
from rich.text import Text

from cluster.storage.base import Storage, StorageMissing

State = Literal["done", "found done", "failed", "stopped"]
STATUS_FILE = "row.json"


@dataclass(frozen=True)
class TargetStatus:
    """Status of one target.

    `lpips`: of the body, on held-out frames; `metrics`: all held-out metrics; `version`: in the registry, None until
    MLflow has created it; `slug` and `why`: the error that stopped it.
    """

    target: str
    state: State
    steps: int | None = None
    minutes: float | None = None
    lpips: float | None = None
    version: int | None = None
    attempts: int = 0
    slug: str = ""
    why: str = ""
    bundle: str = ""
    metrics: dict[str, float] = field(default_factory=dict)


def read_status(store: Storage, folder: str) -> TargetStatus | None:
    """Read the status of a finished target; None if there is none."""
    try:
        fields: dict[str, Any] = json.loads(store.read(f"{folder}/{STATUS_FILE}"))
    except StorageMissing:
        return None
    return TargetStatus(**fields)


def write_status(store: Storage, folder: str, row: TargetStatus) -> None:
    """Store the status of a finished target."""
    store.write(f"{folder}/{STATUS_FILE}", (json.dumps(asdict(row), indent=2) + "\n").encode())


def write_fleet(store: Storage, name: str, rows: Sequence[TargetStatus]) -> None:
    """Store all rows as NAME.json."""
    store.write(f"{name}.json", (json.dumps([asdict(row) for row in rows], indent=2) + "\n").encode())


def fleet_table(rows: Sequence[TargetStatus]) -> Table:
    """Return the rows as a table for rich."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title, justify in (("target", "left"), ("state", "left"), ("steps", "right"), ("minutes", "right")):
        table.add_column(title, justify=justify)  # type: ignore[arg-type]
    for title in ("LPIPS", "version"):
        table.add_column(title, justify="right")
    table.add_column("")
    for row in rows:
        numbers = (row.steps, _rounded(row.minutes, 1), _rounded(row.lpips, 4), row.version)
        cells = ["-" if n is None else str(n) for n in numbers]
        why = Text(f"{row.why} [{row.slug}]" if row.slug else row.why, style="dim")
        table.add_row(row.target, row.state, *cells, why)
    return table


def exit_code(rows: Sequence[TargetStatus]) -> int:
    """Exit code of the job: 0 all done, 3 some failed, 130 stopped."""
    states = {row.state for row in rows}
    return 130 if "stopped" in states else 3 if "failed" in states else 0


def _rounded(value: float | None, decimals: int) -> str | None:
    return None if value is None else f"{value:.{decimals}f}"
