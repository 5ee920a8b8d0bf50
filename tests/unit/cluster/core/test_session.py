from __future__ import annotations

import ast
from pathlib import Path

import pytest
from ray._private.runtime_env.constants import RAY_JOB_CONFIG_JSON_ENV_VAR

from cluster.core.session import SUBMITTED_JOB_VARIABLE, in_submitted_job

ROOT = Path(__file__).resolve().parents[4]


def test_in_submitted_job_reads_rays_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    assert SUBMITTED_JOB_VARIABLE == RAY_JOB_CONFIG_JSON_ENV_VAR
    monkeypatch.delenv(RAY_JOB_CONFIG_JSON_ENV_VAR, raising=False)
    assert not in_submitted_job()
    monkeypatch.setenv(RAY_JOB_CONFIG_JSON_ENV_VAR, "{}")
    assert in_submitted_job()


@pytest.mark.parametrize("folder", ["cluster", "serving", "jobs"])
def test_nothing_private_of_ray_is_imported(folder: str) -> None:
    imported: set[str] = set()
    for path in (ROOT / folder).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom):
                imported |= {f"{node.module}.{alias.name}" for alias in node.names}
            elif isinstance(node, ast.Import):
                imported |= {alias.name for alias in node.names}
    assert "ray" in {name.partition(".")[0] for name in imported} or folder == "jobs"
    assert [name for name in imported if name.startswith("ray.") and "._" in name] == []
