"""The results of a demo, as `report.json` stores them."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dancedist.errors import Notice
from dancedist.evaluation.report import Report, where_it_loses
from dancedist.files import atomic_write


@dataclass
class Outcome:
    """Files and measurements of a demo.

    `frames`, `size`: of the rendered film, (width, height) px. `files`: by content. `reports`: by dance, such as
    "transfer". `joint_error_torsos`: by video, in torso lengths. `seconds`: by step. `key`: fingerprint of the inputs.
    """

    key: str
    frames: int
    size: tuple[int, int]
    files: dict[str, Path]
    reports: dict[str, Report] = field(default_factory=dict)
    joint_error_torsos: dict[str, float] = field(default_factory=dict)
    notices: list[str] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)
    peak_memory_gb: float = 0.0

    def note(self, *notices: Notice) -> None:
        """Add notices."""
        self.notices += [str(notice) for notice in notices]

    def write(self, path: Path, method: str) -> None:
        """Write JSON, atomically, with the metrics in which other methods beat `method`."""
        plain: dict[str, Any] = self.__dict__ | {
            "files": {name: str(file) for name, file in self.files.items()},
            "reports": {danced: report.to_dict() for danced, report in self.reports.items()},
            "where_it_loses": {danced: where_it_loses(report, method) for danced, report in self.reports.items()},
        }
        with atomic_write(path) as partial:
            partial.write_text(json.dumps(plain, indent=2, allow_nan=False) + "\n")


def read_outcome(path: Path, key: str) -> Outcome | None:
    """Read the outcome of an earlier run with the same key; None if there is none or one of its files is gone."""
    try:
        plain = json.loads(path.read_text())
    except (FileNotFoundError, json.JSONDecodeError):
        return None
    if plain.pop("key", None) != key:
        return None
    del plain["where_it_loses"]
    files = {name: Path(file) for name, file in plain.pop("files").items()}
    reports = {danced: Report.from_dict(report) for danced, report in plain.pop("reports").items()}
    size = plain.pop("size")
    outcome = Outcome(key=key, size=(size[0], size[1]), files=files, reports=reports, **plain)
    return outcome if all(file.exists() for file in files.values()) else None
