"""Where every target of a fleet stands: a row each, kept beside what was trained, shown as a table at the end."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from rich.table import Table
from rich.text import Text

from cluster.storage.base import Storage, StorageMissing

State = Literal["done", "found done", "failed", "stopped"]
ROW = "row.json"


@dataclass(frozen=True)
class Row:
    """One target. `lpips`: of the body, on held-out frames; `metrics`: all of them; `version`: in the registry.

    `slug` and `why` say what stopped it; `version` is None where MLflow has not made one yet.
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


def read_row(store: Storage, folder: str) -> Row | None:
    """What an earlier run left of a target that was trained to its end."""
    try:
        plain: dict[str, Any] = json.loads(store.read(f"{folder}/{ROW}"))
    except StorageMissing:
        return None
    return Row(**plain)


def write_row(store: Storage, folder: str, row: Row) -> None:
    """Keep the row of a target that is done."""
    store.write(f"{folder}/{ROW}", (json.dumps(asdict(row), indent=2) + "\n").encode())


def write_fleet(store: Storage, name: str, rows: Sequence[Row]) -> None:
    """All rows, as NAME.json."""
    store.write(f"{name}.json", (json.dumps([asdict(row) for row in rows], indent=2) + "\n").encode())


def fleet_table(rows: Sequence[Row]) -> Table:
    """For rich."""
    drawn = Table(box=None, pad_edge=False, header_style="bold")
    for title, justify in (("target", "left"), ("state", "left"), ("steps", "right"), ("minutes", "right")):
        drawn.add_column(title, justify=justify)  # type: ignore[arg-type]
    for title in ("LPIPS", "version"):
        drawn.add_column(title, justify="right")
    drawn.add_column("")
    for row in rows:
        numbers = (row.steps, _told(row.minutes, 1), _told(row.lpips, 4), row.version)
        cells = ["-" if n is None else str(n) for n in numbers]
        why = Text(f"{row.why} [{row.slug}]" if row.slug else row.why, style="dim")
        drawn.add_row(row.target, row.state, *cells, why)
    return drawn


def exit_code(rows: Sequence[Row]) -> int:
    """0: all are done, 3: some failed, 130: stopped."""
    states = {row.state for row in rows}
    return 130 if "stopped" in states else 3 if "failed" in states else 0


def _told(value: float | None, decimals: int) -> str | None:
    return None if value is None else f"{value:.{decimals}f}"
