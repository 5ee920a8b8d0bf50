from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest

from dancedist import evaluation as ev
from dancedist.recipe import PoseRecipe


def test_a_still_picture_is_looked_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[Any] = []

    class Detector:
        def __init__(self, recipe: PoseRecipe) -> None:
            pass

        def segment(self, frames: Iterable[Any]) -> int:
            seen = [*frames]
            looked.extend(seen)
            return len(seen)

    def follow(people: list[int]) -> tuple[Any, Any, tuple[()]]:
        return np.full((sum(people), 26, 2), 7, np.float32), np.ones((sum(people), 26), np.float32), ()

    monkeypatch.setattr(ev, "PeopleDetector", Detector)
    monkeypatch.setattr(ev, "follow", follow)
    redetect, picture = ev.redetector(PoseRecipe()), np.zeros((4, 6, 3), np.uint8)
    xy, score = redetect(np.broadcast_to(picture, (300, 4, 6, 3)))
    assert (xy.shape, score.shape, len(looked)) == ((300, 26, 2), (300, 26), 1)
    xy, _ = redetect(np.stack([picture] * 300))
    assert (len(xy), len(looked)) == (300, 301)
