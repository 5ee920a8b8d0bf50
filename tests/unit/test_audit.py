from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
BAD = {"name": "a", "version": "1", "vulns": [{"id": "CVE-1", "fix_versions": ["2"]}]}
GOOD: dict[str, Any] = {"name": "b", "version": "1", "vulns": []}
UNKNOWN = {"name": "c", "skip_reason": "not found"}


@pytest.fixture
def audit() -> ModuleType:
    spec = importlib.util.spec_from_file_location("audit", ROOT / "scripts" / "audit.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("probe", "locked", "code", "output"),
    [
        ([BAD], [GOOD, BAD], 1, "a 1: CVE-1, fixed in 2"),
        ([BAD], [GOOD, UNKNOWN], 0, "1 packages audited, not c"),
        ([BAD], [], 1, "0 packages audited"),
        ([BAD], [UNKNOWN], 1, "0 packages audited, not c"),
        ([UNKNOWN], [GOOD], 0, "NOT AUDITED"),
        ([], [GOOD], 0, "NOT AUDITED"),
    ],
)
def test_known_vulnerabilities_fail_and_a_missing_database_is_reported(
    probe: list[dict[str, Any]],
    locked: list[dict[str, Any]],
    code: int,
    output: str,
    audit: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(audit, "run_pip_audit", lambda file: locked if file == audit.LOCK else probe)
    assert audit.main() == code
    assert output in capsys.readouterr().out


def scan(file: Path) -> subprocess.CompletedProcess[str]:
    hook = Path(sys.executable).with_name("detect-secrets-hook")
    baseline = str(ROOT / ".secrets.baseline")
    return subprocess.run(
        [str(hook), "--no-verify", "--baseline", baseline, str(file)], capture_output=True, text=True, cwd=ROOT
    )


def test_a_secret_is_detected(tmp_path: Path) -> None:
    file = tmp_path / "keys.py"
    file.write_text("key = 'AKIA" + "IOSFODNN7EXAMPLE'\n")
    assert scan(file).returncode == 1
    file.write_text("key = None\n")
    assert scan(file).returncode == 0
