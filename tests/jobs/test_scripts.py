"""Jobs run as scripts from any folder (`ray job submit` copies them to one of its own) and can be imported."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
JOBS = sorted(path.stem for path in (ROOT / "jobs").glob("[a-z]*.py"))


@pytest.mark.parametrize("job", JOBS)
def test_the_path_is_set_in_one_place(job: str) -> None:
    text = (ROOT / "jobs" / f"{job}.py").read_text()
    assert "sys.path" not in text and text.count("    import _path  #") == 1
    assert callable(getattr(importlib.import_module(f"jobs.{job}"), job))


@pytest.mark.parametrize("job", ["extract_poses", "forget_dancer"])
def test_a_job_runs_as_a_script(job: str, tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [sys.executable, str(ROOT / "jobs" / f"{job}.py"), "--help"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "Exit code" in done.stdout
