"""What a demo made and measured, as `report.json` keeps it."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dancedist.errors import Notice
from dancedist.evaluation.report import Report, where_it_loses
from dancedist.files import published


@dataclass
class Outcome:
    """Frames of the film, (width, height) px; `files` by what they show, `reports` by what was danced."""

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
        """Add what degraded."""
        self.notices += [str(notice) for notice in notices]

    def write(self, path: Path, method: str) -> None:
        """JSON, whole or not at all; `method` is the one whose losses to the others are listed."""
        plain: dict[str, Any] = self.__dict__ | {
            "files": {name: str(file) for name, file in self.files.items()},
            "reports": {danced: report.to_dict() for danced, report in self.reports.items()},
            "where_it_loses": {danced: where_it_loses(report, method) for danced, report in self.reports.items()},
        }
        with published(path) as partial:
            partial.write_text(json.dumps(plain, indent=2, allow_nan=False) + "\n")


def read_outcome(path: Path, key: str) -> Outcome | None:
    """What an earlier run left under the same key, if all its files are still there."""
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
    done = Outcome(key=key, size=(size[0], size[1]), files=files, reports=reports, **plain)
    return done if all(file.exists() for file in files.values()) else None
