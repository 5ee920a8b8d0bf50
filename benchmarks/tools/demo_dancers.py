"""The drawn dancers that some benchmarks need: what `make demo` left, or ones of a few steps."""

from __future__ import annotations

from pathlib import Path

from cluster import demo

STEPS, FACE_STEPS = 300, 100
DEMO = Path("runs/demo")


def demo_in(folder: Path) -> Path:
    """The folder, absolute, with a demo in it; how well its dancers dance decides nothing that is measured."""
    if not (folder / "demo.json").exists():
        demo.demonstrate(folder.absolute(), STEPS, FACE_STEPS)
    return folder.absolute()
