"""Names of stored poses and segments, from the URI of their video."""

from __future__ import annotations

from pathlib import PurePosixPath

from dancedist.recipe.fingerprint import fingerprint


def poses_name(uri: str) -> str:
    """Name of a video's poses. It does not depend on a target: several targets may share a video."""
    return f"{PurePosixPath(uri).stem}-{fingerprint(uri)[:8]}"


def segments_mark(uri: str) -> str:
    """Name of the empty file that marks segments as used by this URI; videos of the same content share segments."""
    return f"of-{fingerprint(uri)[:16]}"
