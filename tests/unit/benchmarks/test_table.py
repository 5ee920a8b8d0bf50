from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.tools import table


def test_the_page_has_the_current_results() -> None:
    assert table.README.read_text() == table.with_table(table.README.read_text()), "python benchmarks/tools/table.py"


def test_every_claim_has_a_file() -> None:
    files = {path.stem for folder in (table.HERE, table.HERE / "poses") for path in folder.glob("*.py")}
    for claim in table.CLAIMS:
        assert claim.result in files or (claim.result.startswith("gpu_") and "gpu" in files), claim


def test_unmeasured_claims_are_shown_as_such(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table, "RESULTS", tmp_path)
    machine = {"cpu": "a processor", "cores": 2, "isa": ["avx2", "fma"]}
    result = {"ratio": 3.5, "bar": 3.0, "machine": machine, "spread": {"lowest": 3, "highest": 4}}
    (tmp_path / "pose_throughput.json").write_text(json.dumps(result))
    rows = table.table().splitlines()
    assert "| **3.5** | 3 to 4 | 3 | 2 cores, a processor, avx2 |" in rows[2]
    assert all("not measured" in row for row in rows[3:]) and len(rows) == 2 + len(table.CLAIMS)
