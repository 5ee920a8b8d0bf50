"""Time of pose extraction by step: wall ms per frame, one thread."""

from __future__ import annotations

import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path
from unittest.mock import patch

from dancedist.pose import extract
from dancedist.pose.networks import PersonDetector, PoseNetwork
from dancedist.recipe.schema import PoseRecipe
from dancedist.video.decode import read_frames
from dancedist.video.probe import Video

STEPS = (
    (PersonDetector, "boxes", "detect"),
    (PoseNetwork, "pose", "pose"),
    (extract, "one_dancer", "follow and smooth"),
    (extract, "write_poses", "write"),
)


def split_ms(film: Video, frames: int) -> dict[str, float]:
    """Wall ms per frame by step, for `extract_to` on the first frames of a film, with one network thread."""
    spent: dict[str, float] = defaultdict(float)

    def timed(step: str, run: Callable) -> Callable:
        def timed_run(*args):
            started = time.perf_counter()
            result = run(*args)
            spent[step] += time.perf_counter() - started
            return result

        return timed_run

    def decoded(*args) -> Iterator:
        fetch = timed("decode", lambda frames: list(islice(frames, 1)))
        for (frame,) in iter(partial(fetch, read_frames(*args)), []):
            yield frame

    film = replace(film, frames=frames, shown=film.shown[:frames])
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        stack.enter_context(patch.object(extract, "read_frames", decoded))
        for owner, name, step in STEPS:
            stack.enter_context(patch.object(owner, name, timed(step, getattr(owner, name))))
        extract.extract_to(film, Path(folder) / "poses", PoseRecipe(threads=1))
    return {step: round(s / frames * 1e3, 2) for step, s in spent.items()}
