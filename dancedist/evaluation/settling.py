"""Completion of a new bundle from its own renderings: settling time and portrait."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2

from dancedist.bundle.bundle import Bundle, record_settling
from dancedist.bundle.record import PORTRAIT
from dancedist.data.target import Target
from dancedist.files import atomic_write
from dancedist.render.portrait import portrait
from dancedist.render.settling import settling_frames


def measure_settling(folder: Path, bundle: Bundle, target: Target) -> Bundle:
    """Render the validation block, record settling time and portrait in `folder`, and return the updated bundle.

    The settling time is the number of frames until a cold start matches continuous rendering. What the bundle already
    has is not measured again.
    """
    block = target.data.split.validation
    poses = target.poses.slice(block.start, block.stop)
    if not (folder / PORTRAIT).exists() and (picture := portrait(bundle, poses)) is not None:
        with atomic_write(folder / PORTRAIT) as partial:
            cv2.imwrite(str(partial), picture[..., ::-1])
    if bundle.dancer.settling_frames is not None:
        return bundle
    frames = settling_frames(bundle, poses) if poses.present.any() else None
    record_settling(folder, frames)
    return replace(bundle, dancer=bundle.dancer.model_copy(update={"settling_frames": frames}))
