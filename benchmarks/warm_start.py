"""What `--from` saves: steps to the same LPIPS, from scratch and from another dancer's weights (quick, drawn dancers).

    python benchmarks/warm_start.py [STEPS]

Another performer is learnt first, then the target twice: from scratch, and from that one's weights. LPIPS is that of
the averaged generator on pairs of the validation block, in the network's size, every EVERY steps.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.tools.record import record
from dancedist.bundle.bundle import Bundle
from dancedist.data.pairs import to_pictures
from dancedist.evaluation.evaluation import perceptual_metric
from dancedist.metrics.image import Lpips
from dancedist.recipe import Recipe, load_recipe
from dancedist.synthetic import SOURCE, TARGET_TRAINING
from dancedist.synthetic.films import write_scene
from dancedist.training.loop import Trainer
from dancedist.training.target import empty_stage, first_weights, load_target, train_dancer
from dancedist.training.visualize import sampled

EVERY, PAIRS = 25, 24
WAYS = ("from scratch", "warm")


def main(steps: int) -> None:
    overrides = {"stages": ["global"], "training": {"max_steps": steps, "decay_from": 1.0}}
    recipe = load_recipe("quick", overrides=overrides)
    with TemporaryDirectory(prefix="dancedist-") as scratch:
        folder = Path(scratch)
        other = replace(TARGET_TRAINING, performer=SOURCE.performer)
        for name, scene in (("target", TARGET_TRAINING), ("other", other)):
            write_scene(scene, folder / f"{name}.mp4", recipe.video)
        theirs = load_target(folder / "other.mp4", recipe, folder / "other")
        first = train_dancer(theirs, recipe, "other", folder / "other", folder / "other" / "dancer")
        cold, warm = (curve(folder, recipe, begin, perceptual_metric()) for begin in (None, first))
    goals = [cold[step] for step in sorted(cold)[:: len(cold) // 4][1:]]
    reached = [
        {"lpips": goal, **{w: _reached(c, goal) for w, c in zip(WAYS, (cold, warm), strict=True)}} for goal in goals
    ]
    print(*reached, sep="\n")
    last = reached[-1]
    # 0: what scratch ended with was not reached.
    times = last[WAYS[0]] / last[WAYS[1]] if last[WAYS[1]] else 0.0
    curves = {"lpips": dict(zip(WAYS, (cold, warm), strict=True)), "steps_to_reach": reached}
    record("warm_start", times, 1.0, {"steps": steps, **curves}, ("torch",))


def _reached(curve: dict[int, float], goal: float) -> int | None:
    return min((step for step, value in curve.items() if value <= goal), default=None)


def curve(folder: Path, recipe: Recipe, first: Bundle | None, lpips: Lpips) -> dict[int, float]:
    """Steps -> LPIPS."""
    work = folder / ("cold" if first is None else "warm")
    target = load_target(folder / "target.mp4", recipe, folder / "target")
    trainer = Trainer(
        target.data, recipe, work, "target", empty_stage(target, recipe), first=first_weights(first, recipe)
    )
    pairs = target.data.pairs(target.data.split.validation)
    t = pairs[np.linspace(0, len(pairs) - 1, PAIRS).round().astype(int)]
    values: dict[int, float] = {}

    def look(_: int) -> None:
        if trainer.step % EVERY == 0 and trainer.step not in values:
            backdrop = trainer.stage.lesson.backdrop
            _, results, truth = sampled(trainer.state.ema, target.data, recipe, backdrop, t)
            values[trainer.step] = float(lpips(to_pictures(results), to_pictures(truth)).mean())

    trainer.run(look)
    return values


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 400)
