"""Names in the docs exist: relative links, files in the repository, and `file.py:name` references."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
REFERENCE = re.compile(r"`((?:[\w./-]+/)?\w+\.py):([\w.]+)`")
LINK = re.compile(r"\]\((?!https?:|mailto:)([^)#\s]+)(?:#[^)]*)?\)")


def documents() -> list[Path]:
    listed = subprocess.run(["git", "ls-files", "*.md"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("needs git")
    # Cards of stored dancers describe what lay beside them once.
    return [ROOT / line for line in listed.stdout.splitlines() if not line.startswith("tests/fixtures/")]


def candidates(file: str) -> list[Path]:
    """Files that a short path in the docs may mean."""
    name = Path(file).name
    return [path for path in ROOT.glob(f"[a-z]*/**/{name}") if str(path).endswith(f"/{file}")]


def test_references_to_functions_exist() -> None:
    missing = []
    for document in documents():
        for file, name in REFERENCE.findall(document.read_text()):
            texts = [path.read_text() for path in candidates(file)]
            last = name.rpartition(".")[2]
            if not any(re.search(rf"(def|class) {last}\b|^{last}\b", text, re.MULTILINE) for text in texts):
                missing.append(f"{document.relative_to(ROOT)}: {file}:{name}")
    assert not missing, "\n".join(missing)


def test_links_lead_somewhere() -> None:
    broken = [
        f"{document.relative_to(ROOT)}: {link}"
        for document in documents()
        for link in LINK.findall(document.read_text())
        if not (document.parent / link).exists()
    ]
    assert not broken, "\n".join(broken)
