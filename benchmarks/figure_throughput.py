"""Claim: at least 500 stick figures a second on one core at 512x256. `python benchmarks/figure_throughput.py`."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import cv2
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.tools.record import record
from dancedist.pose.topology import TOPOLOGIES, Topology
from dancedist.recipe.schema import FigureRecipe
from dancedist.skeleton.draw import draw_figure

SIZE, FIGURES, CLAIM = (512, 256), 1000, 500


def figures_per_s(topology: Topology) -> float:
    """Figures per CPU second. All keypoints are visible, over 40 % of the height: longer lines than in real poses."""
    rng = np.random.default_rng(0)
    xy = (rng.normal(0, 0.2, (FIGURES, len(topology), 2)) * SIZE[1] + np.array(SIZE) / 2).astype(np.float32)
    score = np.ones(len(topology), np.float32)
    recipe = FigureRecipe()
    draw_figure(xy[0], score, topology, SIZE, recipe)
    started = time.process_time()
    for pose in xy:
        draw_figure(pose, score, topology, SIZE, recipe)
    return FIGURES / (time.process_time() - started)


def main() -> None:
    cv2.setNumThreads(1)
    rates = {t.name: figures_per_s(t) for t in TOPOLOGIES.values()}
    print(f"per CPU second of one thread, {SIZE[0]}x{SIZE[1]}, claimed {CLAIM}/s")
    for name, rate in rates.items():
        print(f"{name:14s}{rate:8.0f} figures/s")
    figures = {"figures_per_s": rates, "size": SIZE}
    record("figure_throughput", rates["halpe26"] / CLAIM, 1.0, figures, ("opencv-python", "numpy"))


if __name__ == "__main__":
    main()
