"""Claim: a training step of `fast` at 256x256 is 3 times as fast on a CPU as the 2019 recipe's, and learns as well.

    python benchmarks/training_step.py

Against eager fp32 with the same networks and losses, pair for pair (benchmarks/tools/recipe_2019.py). Speed: TURNS
turns of STEPS steps each. Quality: both sides begin with the same weights and see the same pairs in the same order;
LPIPS of the generators as they are after each of LOOKS steps, on frames of the block that neither saw. From look to
look it jumps by a tenth, so the mean of all of them counts.
"""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from statistics import mean
from tempfile import TemporaryDirectory

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.tools.lessons import PLAIN, Lessons, Lessons2019, School
from benchmarks.tools.record import record
from benchmarks.tools.turns import Side, take_turns, times

STEPS, TURNS, BAR, QUALITY_BAR = 2, 5, 3.0, 1.03
LOOKS = range(100, 141, 20)
OURS, THEIRS = "ours", "the 2019 recipe"


def main() -> None:
    with TemporaryDirectory(prefix="dancedist-") as scratch:
        school = School(Path(scratch), (256, 256))
        size = school.target().data.size
        sides = {
            OURS: Side(partial(Lessons, school, looks=LOOKS)),
            THEIRS: Side(partial(Lessons2019, school, PLAIN, looks=LOOKS)),
        }
        seconds = take_turns(sides, TURNS, STEPS)
        lpips = {name: side.turn(0)[1] for name, side in sides.items()}
    means = {name: mean(looks) for name, looks in lpips.items()}
    speed = times(seconds[THEIRS], seconds[OURS])
    figures = {
        "spread": speed,
        "size": size,
        "seconds_a_step": {name: [s / STEPS for s in turns] for name, turns in seconds.items()},
        "lpips": {"steps": [*LOOKS], **lpips},
        "lpips_ours_over_theirs": round(means[OURS] / means[THEIRS], 4),
        "lpips_bar": QUALITY_BAR,
    }
    print(figures)
    record("training_step", speed["median"], BAR, figures, ("torch",))


if __name__ == "__main__":
    main()
