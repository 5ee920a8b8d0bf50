"""A recipe and a target small enough to train in seconds."""

from __future__ import annotations

from collections import defaultdict
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ray.util.metrics import Metric

from dancedist.data.pairs import TargetData
from dancedist.data.split import split_by_time
from dancedist.pose.sequence import PoseSequence
from dancedist.pose.topology import HALPE26
from dancedist.recipe.loading import parse_recipe
from dancedist.recipe.schema import Recipe
from dancedist.skeleton.crop import crop_box
from dancedist.video.letterbox import letterbox

SIZE = (48, 64)
FRAMES = 60
# Dancers, checkpoints, records and keys of the first release (see its README.md).
FIXTURES = Path(__file__).parents[1] / "fixtures"


def toy_recipe(*later: str, **training: Any) -> Recipe:
    """A recipe like `quick` with steps of milliseconds; `later` are the stages after the global one."""
    return parse_recipe(
        {
            "stages": ["global", *later],
            "data": {"gap_s": 0.1, "min_train_frames": 8},
            "generator": {
                "pixels": 48 * 64,
                "filters": 4,
                "downsamplings": 2,
                "blocks": 1,
                "patch": 2,
                "background": True,
                "window": True,
            },
            "discriminator": {"filters": 4, "layers": 2},
            "local": {"blocks": 1, "scales": 2, "epochs": 100, "max_steps": 5},
            "face": {
                "pixels": 16,
                "filters": 4,
                "downsamplings": 2,
                "blocks": 1,
                "discriminator_filters": 4,
                "l1": 10.0,
                "max_steps": 5,
            },
            "losses": {"perceptual_backbone": "none", "l1": 10.0},
            "training": {
                "epochs": 100,
                "max_steps": 8,
                "batch_pairs": 2,
                "log_every_steps": 1,
                "checkpoint_every_steps": 3,
                "sample_every_steps": 4,
                "ema_decay": 0.5,
                "rotation_degrees": 15.0,
                "precision": "fp32",
                **training,
            },
        }
    )


@pytest.fixture(scope="session")
def tiny_recipe() -> Recipe:
    """The toy recipe without changes."""
    return toy_recipe()


def moving_poses(frames: int = FRAMES, size: tuple[int, int] = SIZE) -> PoseSequence:
    """A skeleton of random keypoints that sways from side to side."""
    rng = np.random.default_rng(0)
    base = rng.uniform(0.25, 0.75, (len(HALPE26), 2)) * size
    sway = np.stack([np.sin(np.arange(frames) / 4) * size[0] / 8, np.zeros(frames)], 1)
    xy = (base[None] + sway[:, None]).astype(np.float32)
    return PoseSequence(xy, np.ones(xy.shape[:2], np.float32), HALPE26, Fraction(25), size)


def toy(recipe: Recipe) -> TargetData:
    """A target: a bright square at the first keypoint, the nose. Twice as large for a local enhancer."""
    size = (2 * SIZE[0], 2 * SIZE[1]) if "local" in recipe.stages else SIZE
    poses = moving_poses(size=size)
    pictures = np.full((FRAMES, size[1], size[0], 3), 60, np.uint8)
    for picture, (x, y) in zip(pictures, poses.xy[:, 0].round().astype(int), strict=True):
        picture[y - 2 : y + 3, x - 2 : x + 3] = (220, 180, 40)
    placed = letterbox(size, recipe.pixels, recipe.multiple)
    assert placed.picture_size == size
    split = split_by_time(FRAMES, poses.fps, recipe.data)
    boxes = np.concatenate([poses.xy[:, 0] - 8, poses.xy[:, 0] + 8], 1)
    crops = zip(pictures, boxes.tolist(), strict=True)
    faces = np.stack([crop_box(picture, (x0, y0, x1, y1), recipe.face.pixels) for picture, (x0, y0, x1, y1) in crops])
    return TargetData(
        pictures, poses, poses.present, placed, split, recipe.figure, faces=faces, face_boxes=np.float32(boxes)
    )


Counted = dict[tuple[str, ...], list[float]]


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Counted:
    """Values recorded for Prometheus during the test, by name and labels."""
    values: Counted = defaultdict(list)
    record = Metric._record

    def record_and_count(metric: Metric, value: float, tags: dict[str, str] | None = None) -> None:
        values[metric.info["name"], *(tags or {}).values()].append(value)
        record(metric, value, tags)

    monkeypatch.setattr(Metric, "_record", record_and_count)
    return values


@pytest.fixture
def toy_target(tiny_recipe: Recipe) -> TargetData:
    """A target: a moving bright square."""
    return toy(tiny_recipe)
