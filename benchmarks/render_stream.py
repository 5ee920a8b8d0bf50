"""Claim: one stream at 256x256 is rendered 4 times as fast on a CPU as by the 2019 test loop, within 40 dB of it.

    python benchmarks/render_stream.py

Both sides render the same dancer (the networks of `fast`, trained for TRAINING_STEPS steps). Ours goes from poses to an
encoded film. The 2019 loop is eager fp32 from PNG figures to PNG frames; drawing the figures and encoding a film are
not counted.
"""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import cv2
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.tools.recipe_2019 import render_2019
from benchmarks.tools.record import record
from benchmarks.tools.training_sides import TrainingSetup
from benchmarks.tools.turns import Side, take_turns, times
from dancedist.bundle.bundle import load_bundle
from dancedist.pose.sequence import PoseSequence
from dancedist.render.chunk import figures, render_chunk
from dancedist.render.clip import ClipRequest, render_clips
from dancedist.render.plan import Chunk
from dancedist.training.target import train_dancer

FRAMES, WARM, TURNS, TRAINING_STEPS, BAR, BAR_DB = 24, 4, 5, 40, 4.0, 40.0
OURS, THEIRS = "ours", "the 2019 loop"


class Film:
    """Our side: render a film of a number of frames."""

    def __init__(self, setup: TrainingSetup) -> None:
        self.folder, self.bundle = setup.folder, load_bundle(setup.folder / "dancer")
        self.poses = setup.target().poses
        self(WARM)

    def __call__(self, frames: int) -> None:
        """Render the film."""
        render_clips(
            self.bundle,
            [ClipRequest(dance(self.poses, frames), Chunk(0, frames), self.bundle.dancer.recipe.video)],
            self.folder,
        )

    def pictures(self) -> list[np.ndarray]:
        """The network's pictures, uint8 RGB (h, w, 3)."""
        return [picture.rgb for picture in render_chunk(self.bundle, dance(self.poses, FRAMES), Chunk(0, FRAMES))]


class Loop2019(Film):
    """The other side: the 2019 test loop."""

    def __call__(self, frames: int) -> None:
        """Render the frames as PNG files."""
        out = self.folder / "loop_2019"
        out.mkdir(exist_ok=True)
        paths = [self.folder / "figures" / f"{i:04d}.png" for i in range(frames)]
        if not paths[0].exists():
            draw_figures(self, paths[0].parent)
        render_2019(self.bundle.generator, paths, out)

    def pictures(self) -> list[np.ndarray]:
        """The loop's pictures, read from its files, uint8 RGB (h, w, 3)."""
        self(FRAMES)
        return [cv2.imread(str(self.folder / "loop_2019" / f"{i:04d}.png"))[..., ::-1] for i in range(FRAMES)]


def draw_figures(film: Film, folder: Path) -> None:
    """Draw the figures that the 2019 loop reads."""
    folder.mkdir()
    for i, figure in enumerate(figures(film.bundle, dance(film.poses, FRAMES), Chunk(0, FRAMES))):
        cv2.imwrite(str(folder / f"{i:04d}.png"), figure[..., ::-1])


def dance(poses: PoseSequence, frames: int) -> PoseSequence:
    """The first frames of the dance."""
    return poses.slice(0, frames)


def lowest_psnr_db(setup: TrainingSetup) -> float:
    """Lowest PSNR of a frame, ours against the 2019 loop's, dB."""
    values = []
    for a, b in zip(Film(setup).pictures(), Loop2019(setup).pictures(), strict=True):
        mse = float(np.mean((a.astype(np.float32) - b) ** 2))
        values.append(10 * np.log10(255**2 / max(mse, 1e-9)))
    print([round(v, 1) for v in values])
    return round(min(values), 2)


def main() -> None:
    with TemporaryDirectory(prefix="dancedist-") as scratch:
        setup = TrainingSetup(Path(scratch), (256, 256))
        recipe = setup.recipe({"max_steps": TRAINING_STEPS, "ema_decay": 0.5})
        train_dancer(setup.target(), recipe, "drawn", setup.folder / "work", setup.folder / "dancer")
        sides = {OURS: Side(partial(Film, setup)), THEIRS: Side(partial(Loop2019, setup))}
        seconds = take_turns(sides, TURNS, FRAMES)
        for side in sides.values():
            side.end()
        psnr_db = lowest_psnr_db(setup)
    speed = times(seconds[THEIRS], seconds[OURS])
    rates = {name: [round(FRAMES / s, 2) for s in turns] for name, turns in seconds.items()}
    measured = {"spread": speed, "frames_per_s": rates, "lowest_psnr_db": psnr_db, "psnr_bar_db": BAR_DB}
    print(measured)
    record("render_stream", speed["median"], BAR, measured, ("torch", "openvino"))


if __name__ == "__main__":
    main()
