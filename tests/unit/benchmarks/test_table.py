from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.tools import table


def test_the_page_shows_what_was_measured() -> None:
    assert table.README.read_text() == table.written(table.README.read_text()), "python benchmarks/tools/table.py"


def test_a_claim_is_a_file_of_its_own() -> None:
    files = {path.stem for path in table.HERE.glob("*.py")}
    for claim in table.CLAIMS:
        assert claim.result in files or (claim.result.startswith("gpu_") and "gpu" in files), claim


def test_what_was_not_measured_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table, "RESULTS", tmp_path)
    machine = {"cpu": "a processor", "cores": 2, "isa": ["avx2", "fma"]}
    told = {"ratio": 3.5, "bar": 3.0, "machine": machine, "spread": {"lowest": 3, "highest": 4}}
    (tmp_path / "pose_throughput.json").write_text(json.dumps(told))
    rows = table.table().splitlines()
    assert "| **3.5** | 3 to 4 | 3 | 2 cores, a processor, avx2 |" in rows[2]
    assert all("not measured" in row for row in rows[3:]) and len(rows) == 2 + len(table.CLAIMS)
