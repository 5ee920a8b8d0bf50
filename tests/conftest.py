"""Where the tests find what is not in the repository."""

from __future__ import annotations

from pathlib import Path

import pytest

SHARED = Path(__file__).resolve().parents[2] / "shared"


def _shared(name: str) -> Path:
    folder = SHARED / name
    if not folder.is_dir():
        pytest.skip(f"needs {folder}, which is kept outside the project")
    return folder


@pytest.fixture(scope="session")
def footage() -> Path:
    """../shared/footage: real dancers."""
    return _shared("footage")


@pytest.fixture(scope="session")
def shared_weights() -> Path:
    """../shared/weights: real networks."""
    return _shared("weights")
