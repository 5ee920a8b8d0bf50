"""Claim: with `--from` (initial weights of another dancer) training needs fewer steps to the same LPIPS.

    python benchmarks/warm_start.py [STEPS]

With quick and drawn dancers: another performer is trained first, then the target twice, from scratch and from that
performer's weights. LPIPS is that of the averaged generator on pairs of the validation block, at the network's size,
every EVERY steps.
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
from dancedist.data.target import background_of, load_target
from dancedist.data.tensors import to_pictures
from dancedist.evaluation.measure import perceptual_metric
from dancedist.metrics.lpips import Lpips
from dancedist.recipe.loading import load_recipe
from dancedist.recipe.schema import Recipe
from dancedist.synthetic import SOURCE, TARGET_TRAINING
from dancedist.synthetic.films import write_scene
from dancedist.training.loop import Trainer
from dancedist.training.samples import render_samples
from dancedist.training.target import initial_weights, train_dancer

EVERY, PAIRS = 25, 24
STARTS = ("from scratch", "warm")


def main(steps: int) -> None:
    overrides = {"stages": ["global"], "training": {"max_steps": steps, "decay_from": 1.0}}
    recipe = load_recipe("quick", overrides=overrides)
    with TemporaryDirectory(prefix="dancedist-") as scratch:
        folder = Path(scratch)
        other = replace(TARGET_TRAINING, performer=SOURCE.performer)
        for name, scene in (("target", TARGET_TRAINING), ("other", other)):
            write_scene(scene, folder / f"{name}.mp4", recipe.video)
        other_target = load_target(folder / "other.mp4", recipe, folder / "other")
        first = train_dancer(other_target, recipe, "other", folder / "other", folder / "other" / "dancer")
        cold, warm = (curve(folder, recipe, initial, perceptual_metric()) for initial in (None, first))
    goals = [cold[step] for step in sorted(cold)[:: len(cold) // 4][1:]]
    reached = [
        {"lpips": goal, **{start: _reached(c, goal) for start, c in zip(STARTS, (cold, warm), strict=True)}}
        for goal in goals
    ]
    print(*reached, sep="\n")
    last = reached[-1]
    # 0 if the last goal, the final value from scratch, was not reached.
    ratio = last[STARTS[0]] / last[STARTS[1]] if last[STARTS[1]] else 0.0
    curves = {"lpips": dict(zip(STARTS, (cold, warm), strict=True)), "steps_to_reach": reached}
    record("warm_start", ratio, 1.0, {"steps": steps, **curves}, ("torch",))


def _reached(curve: dict[int, float], goal: float) -> int | None:
    return min((step for step, value in curve.items() if value <= goal), default=None)


def curve(folder: Path, recipe: Recipe, first: Bundle | None, lpips: Lpips) -> dict[int, float]:
    """Train the target; returns LPIPS by step."""
    work = folder / ("cold" if first is None else "warm")
    target = load_target(folder / "target.mp4", recipe, folder / "target")
    trainer = Trainer(
        target.data, recipe, work, "target", background_of(target, recipe), initial=initial_weights(first, recipe)
    )
    pairs = target.data.pairs(target.data.split.validation)
    t = pairs[np.linspace(0, len(pairs) - 1, PAIRS).round().astype(int)]
    values: dict[int, float] = {}

    def evaluate(_: int) -> None:
        if trainer.step % EVERY == 0 and trainer.step not in values:
            background = trainer.stage.context.background
            _, results, truth = render_samples(trainer.state.ema, target.data, recipe, background, t)
            values[trainer.step] = float(lpips(to_pictures(results), to_pictures(truth)).mean())

    trainer.run(evaluate)
    return values


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 400)
