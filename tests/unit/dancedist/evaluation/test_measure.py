from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest

from dancedist.evaluation import measure
from dancedist.evaluation.measure import redetector
from dancedist.recipe.schema import PoseRecipe


def test_a_repeated_picture_is_detected_once(monkeypatch: pytest.MonkeyPatch) -> None:
    detected: list[Any] = []

    class Detector:
        def __init__(self, recipe: PoseRecipe) -> None:
            pass

        def segment(self, frames: Iterable[Any]) -> int:
            segment = [*frames]
            detected.extend(segment)
            return len(segment)

    def select_track(people: list[int]) -> tuple[Any, Any, tuple[()]]:
        return np.full((sum(people), 26, 2), 7, np.float32), np.ones((sum(people), 26), np.float32), ()

    monkeypatch.setattr(measure, "PeopleDetector", Detector)
    monkeypatch.setattr(measure, "select_track", select_track)
    redetect, picture = redetector(PoseRecipe()), np.zeros((4, 6, 3), np.uint8)
    xy, score_methods = redetect(np.broadcast_to(picture, (300, 4, 6, 3)))
    assert (xy.shape, score_methods.shape, len(detected)) == ((300, 26, 2), (300, 26), 1)
    xy, _ = redetect(np.stack([picture] * 300))
    assert (len(xy), len(detected)) == (300, 301)
