"""Where the time of pose extraction goes: wall ms a frame of one thread."""

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
from dancedist.pose.networks import PersonFinder, PoseNetwork
from dancedist.recipe import PoseRecipe
from dancedist.video.decode import read_frames
from dancedist.video.probe import Video

STAGES = (
    (PersonFinder, "boxes", "detect"),
    (PoseNetwork, "pose", "pose"),
    (extract, "one_dancer", "follow and smooth"),
    (extract, "write_poses", "write"),
)


def split_ms(film: Video, frames: int) -> dict[str, float]:
    """Wall ms a frame by stage, of `extract_to` on the first frames of a film, networks of one thread."""
    spent: dict[str, float] = defaultdict(float)

    def timed(stage: str, run: Callable) -> Callable:
        def outer(*args):
            began = time.perf_counter()
            result = run(*args)
            spent[stage] += time.perf_counter() - began
            return result

        return outer

    def decoded(*args) -> Iterator:
        fetch = timed("decode", lambda frames: list(islice(frames, 1)))
        for (frame,) in iter(partial(fetch, read_frames(*args)), []):
            yield frame

    film = replace(film, frames=frames, shown=film.shown[:frames])
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        stack.enter_context(patch.object(extract, "read_frames", decoded))
        for owner, name, stage in STAGES:
            stack.enter_context(patch.object(owner, name, timed(stage, getattr(owner, name))))
        extract.extract_to(film, Path(folder) / "poses", PoseRecipe(threads=1))
    return {stage: round(s / frames * 1e3, 2) for stage, s in spent.items()}
