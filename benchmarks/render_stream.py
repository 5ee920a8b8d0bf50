"""Claim: one stream at 256x256 is rendered 4 times as fast on a CPU as by the 2019 test loop, within 40 dB of it.

    python benchmarks/render_stream.py

The same dancer on both sides (the networks of `fast`, trained for LESSONS steps). Ours goes from poses to an encoded
film; theirs is eager fp32, a figure's PNG in and a frame's PNG out: drawing its figures is not counted, nor its film.
"""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import cv2
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.tools.lessons import School
from benchmarks.tools.recipe_2019 import render_2019
from benchmarks.tools.record import record
from benchmarks.tools.turns import Side, take_turns, times
from dancedist.bundle.bundle import load_bundle
from dancedist.pose.sequence import PoseSequence
from dancedist.render.chunk import figures, render_chunk
from dancedist.render.clip import Wish, render_clips
from dancedist.render.plan import Chunk
from dancedist.training.target import train_dancer

FRAMES, WARM, TURNS, LESSONS, BAR, BAR_DB = 24, 4, 5, 40, 4.0, 40.0
OURS, THEIRS = "ours", "the 2019 loop"


class Film:
    """Work of our side: a film of so many frames."""

    def __init__(self, school: School) -> None:
        self.folder, self.bundle = school.folder, load_bundle(school.folder / "dancer")
        self.poses = school.target().poses
        self(WARM)

    def __call__(self, frames: int) -> None:
        """See the class."""
        render_clips(
            self.bundle,
            [Wish(dance(self.poses, frames), Chunk(0, frames), self.bundle.dancer.recipe.video)],
            self.folder,
        )

    def pictures(self) -> list[np.ndarray]:
        """What the network gives, uint8 (h, w, 3)."""
        return [picture.rgb for picture in render_chunk(self.bundle, dance(self.poses, FRAMES), Chunk(0, FRAMES))]


class Loop2019(Film):
    """Work of theirs."""

    def __call__(self, frames: int) -> None:
        """See the class."""
        out = self.folder / "theirs"
        out.mkdir(exist_ok=True)
        paths = [self.folder / "figures" / f"{i:04d}.png" for i in range(frames)]
        if not paths[0].exists():
            draw_figures(self, paths[0].parent)
        render_2019(self.bundle.generator, paths, out)

    def pictures(self) -> list[np.ndarray]:
        """From its files."""
        self(FRAMES)
        return [cv2.imread(str(self.folder / "theirs" / f"{i:04d}.png"))[..., ::-1] for i in range(FRAMES)]


def draw_figures(film: Film, folder: Path) -> None:
    """What the other side's user has drawn before."""
    folder.mkdir()
    for i, figure in enumerate(figures(film.bundle, dance(film.poses, FRAMES), Chunk(0, FRAMES))):
        cv2.imwrite(str(folder / f"{i:04d}.png"), figure[..., ::-1])


def dance(poses: PoseSequence, frames: int) -> PoseSequence:
    """Its beginning."""
    return poses.slice(0, frames)


def lowest_psnr_db(school: School) -> float:
    """Of all frames, ours against theirs."""
    values = []
    for a, b in zip(Film(school).pictures(), Loop2019(school).pictures(), strict=True):
        mse = float(np.mean((a.astype(np.float32) - b) ** 2))
        values.append(10 * np.log10(255**2 / max(mse, 1e-9)))
    print([round(v, 1) for v in values])
    return round(min(values), 2)


def main() -> None:
    with TemporaryDirectory(prefix="dancedist-") as scratch:
        school = School(Path(scratch), (256, 256))
        recipe = school.recipe({"max_steps": LESSONS, "ema_decay": 0.5})
        train_dancer(school.target(), recipe, "drawn", school.folder / "work", school.folder / "dancer")
        sides = {OURS: Side(partial(Film, school)), THEIRS: Side(partial(Loop2019, school))}
        seconds = take_turns(sides, TURNS, FRAMES)
        for side in sides.values():
            side.end()
        psnr_db = lowest_psnr_db(school)
    speed = times(seconds[THEIRS], seconds[OURS])
    rates = {name: [round(FRAMES / s, 2) for s in turns] for name, turns in seconds.items()}
    told = {"spread": speed, "frames_per_s": rates, "lowest_psnr_db": psnr_db, "psnr_bar_db": BAR_DB}
    print(told)
    record("render_stream", speed["median"], BAR, told, ("torch", "openvino"))


if __name__ == "__main__":
    main()
