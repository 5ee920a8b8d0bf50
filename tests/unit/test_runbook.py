"""What operators are told to do: of every error that can come to them."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_every_slug_is_in_the_runbook_or_among_the_services_errors() -> None:
    files = [path for package in ("dancedist", "cluster", "serving") for path in (ROOT / package).rglob("*.py")]
    code = "".join(path.read_text() for path in files)
    # Of the classes, and of what the service refuses.
    slugs = {*re.findall(r'^    slug(?:: \S+)? = "([a-z-]+)"', code, re.MULTILINE)} - {"error"}
    slugs |= {*re.findall(r'Refused\(\s*"([a-z-]+)"', code)}
    assert {"storage-unavailable", "weights-missing", "queue-full", "forbidden", "upload-too-large"} <= slugs
    runbook = (ROOT / "docs" / "operations.md").read_text().partition("## What to do when")[2]
    errors = (ROOT / "docs" / "http.md").read_text().partition("## Errors")[2].partition("\n## ")[0]
    assert slugs <= {*re.findall(r"`([a-z][a-z-]+)`", runbook + errors)}
