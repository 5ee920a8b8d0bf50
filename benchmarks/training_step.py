"""Claim: a training step of `fast` at 256x256 is 3 times as fast on a CPU as the 2019 recipe's, and learns as well.

    python benchmarks/training_step.py

The other side is eager fp32 with the same networks and losses, pair by pair (benchmarks/tools/recipe_2019.py). Speed:
TURNS turns of STEPS steps each. Quality: both sides start from the same weights and see the same pairs in the same
order; LPIPS of the generators is measured after each number of steps in EVALUATED_STEPS, on frames of the validation
block. It varies by a tenth from one to the next, so their mean counts.
"""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from statistics import mean
from tempfile import TemporaryDirectory

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.tools.record import record
from benchmarks.tools.training_sides import PLAIN, FastSide, Recipe2019Side, TrainingSetup
from benchmarks.tools.turns import Side, take_turns, times

STEPS, TURNS, BAR, QUALITY_BAR = 2, 5, 3.0, 1.03
EVALUATED_STEPS = range(100, 141, 20)
OURS, THEIRS = "ours", "the 2019 recipe"


def main() -> None:
    with TemporaryDirectory(prefix="dancedist-") as scratch:
        setup = TrainingSetup(Path(scratch), (256, 256))
        size = setup.target().data.size
        sides = {
            OURS: Side(partial(FastSide, setup, evaluated_steps=EVALUATED_STEPS)),
            THEIRS: Side(partial(Recipe2019Side, setup, PLAIN, evaluated_steps=EVALUATED_STEPS)),
        }
        seconds = take_turns(sides, TURNS, STEPS)
        lpips = {name: side.turn(0)[1] for name, side in sides.items()}
    mean_lpips = {name: mean(values) for name, values in lpips.items()}
    speed = times(seconds[THEIRS], seconds[OURS])
    figures = {
        "spread": speed,
        "size": size,
        "seconds_a_step": {name: [s / STEPS for s in turns] for name, turns in seconds.items()},
        "lpips": {"steps": [*EVALUATED_STEPS], **lpips},
        "lpips_ours_over_theirs": round(mean_lpips[OURS] / mean_lpips[THEIRS], 4),
        "lpips_bar": QUALITY_BAR,
    }
    print(figures)
    record("training_step", speed["median"], BAR, figures, ("torch",))


if __name__ == "__main__":
    main()
