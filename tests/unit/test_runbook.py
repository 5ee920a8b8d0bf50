"""The runbook says what to do about every error code."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_every_slug_is_in_the_runbook_or_the_http_errors() -> None:
    files = [path for package in ("dancedist", "cluster", "serving") for path in (ROOT / package).rglob("*.py")]
    code = "".join(path.read_text() for path in files)
    # Slugs of error classes, and of rejected requests.
    slugs = {*re.findall(r'^    slug(?:: \S+)? = "([a-z-]+)"', code, re.MULTILINE)} - {"error"}
    slugs |= {*re.findall(r'RequestRejected\(\s*"([a-z-]+)"', code)}
    assert {"storage-unavailable", "weights-missing", "queue-full", "forbidden", "upload-too-large"} <= slugs
    runbook = (ROOT / "docs" / "operations" / "runbook.md").read_text().partition("\n## Error codes\n")[2]
    errors = (ROOT / "docs" / "http.md").read_text().partition("## Errors")[2].partition("\n## ")[0]
    assert slugs <= {*re.findall(r"`([a-z][a-z-]+)`", runbook + errors)}
