"""Claim: at least 500 stick figures a second on one core at 512x256. `python benchmarks/figure_throughput.py`."""

from __future__ import annotations

import platform
import time

import cv2
import numpy as np

from dancedist.figure.draw import draw_figure
from dancedist.pose.topology import TOPOLOGIES, Topology
from dancedist.recipe import FigureRecipe

SIZE, FIGURES, CLAIM = (512, 256), 1000, 500


def figures_per_s(topology: Topology) -> float:
    """All keypoints seen, spread over 40 % of the picture's height: longer lines than a real pose has."""
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
    """Print one line a topology; fail where the default one is slower than claimed."""
    cv2.setNumThreads(1)
    rates = {t.name: figures_per_s(t) for t in TOPOLOGIES.values()}
    machine = platform.processor() or platform.machine()
    print(f"{machine}, per CPU second of one thread, {SIZE[0]}x{SIZE[1]}, claimed {CLAIM}/s")
    for name, rate in rates.items():
        print(f"{name:14s}{rate:8.0f} figures/s")
    assert rates["halpe26"] >= CLAIM, "slower than claimed"


if __name__ == "__main__":
    main()
