from __future__ import annotations

from fractions import Fraction

import numpy as np

from dancedist.evaluation.held_out import MAX_FRAMES, scored_range
from dancedist.pose.sequence import PoseSequence
from dancedist.pose.topology import HALPE26


def test_the_scored_range_begins_with_a_dancer() -> None:
    xy, score = np.zeros((900, 26, 2), np.float32), np.ones((900, 26), np.float32)
    xy[:450], score[:450] = np.nan, 0
    poses = PoseSequence(xy, score, HALPE26, Fraction(25), (64, 64))
    assert scored_range(poses, range(900)) == range(450, 450 + MAX_FRAMES)
    assert scored_range(poses, range(700, 800)) == range(700, 800)
    assert scored_range(poses, range(100)) == range(100)
