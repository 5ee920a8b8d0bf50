"""Drawn dancers for benchmarks: those of `make demo`, or ones trained for a few steps."""

from __future__ import annotations

from pathlib import Path

from cluster import demo

STEPS, FACE_STEPS = 300, 100
DEMO = Path("runs/demo")


def demo_in(folder: Path) -> Path:
    """The absolute path of a folder with a demo, run now if it is missing. Quality does not affect the measurements."""
    if not (folder / "demo.json").exists():
        demo.run_everything(folder.absolute(), STEPS, FACE_STEPS)
    return folder.absolute()
