"""Scenes of the demo: performers, backdrops, dances and beat."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from dancedist.pose.sequence import PoseSequence
from dancedist.pose.topology import HALPE26
from dancedist.synthetic.backdrop import Backdrop
from dancedist.synthetic.body import Proportions, joints
from dancedist.synthetic.camera import Camera
from dancedist.synthetic.cloth import Cloth
from dancedist.synthetic.dances import Dance, routine
from dancedist.synthetic.draw import draw
from dancedist.synthetic.performer import Performer

FPS = Fraction(25)
BPM = 100.0


@dataclass(frozen=True)
class Scene:
    """A performer in front of a backdrop who dances `dances` in turn; `size` is (width, height) px."""

    performer: Performer
    backdrop: Backdrop
    dances: tuple[Dance, ...]
    seconds_each: float
    size: tuple[int, int]
    fps: Fraction = FPS
    bpm: float = BPM

    @property
    def duration_s(self) -> float:
        """Duration, seconds."""
        return len(self.dances) * round(self.seconds_each * self.fps) / float(self.fps)

    def poses(self) -> PoseSequence:
        """The true poses of all frames: HALPE26, score 1."""
        motion = routine(self.dances, self.seconds_each, float(self.fps), self.bpm)
        xy = self.backdrop.camera.project(joints(self.performer.proportions, motion), self.size)
        return PoseSequence(xy, np.ones(xy.shape[:2], np.float32), HALPE26, self.fps, self.size, model="truth")

    def frames(self) -> Iterator[NDArray[np.uint8]]:
        """All frames, uint8 RGB (H, W, 3)."""
        return film(self.performer, self.backdrop, self.poses())


def film(performer: Performer, backdrop: Backdrop, poses: PoseSequence) -> Iterator[NDArray[np.uint8]]:
    """Frames of `performer` in these poses of HALPE26, uint8 RGB (H, W, 3).

    With retargeted poses, they are the ground truth of a motion transfer. A frame without the dancer is the backdrop.
    """
    assert poses.topology.name == HALPE26.name, poses.topology.name
    for xy in poses.xy:
        yield draw(performer, backdrop, xy, poses.size)


ROSA = Performer(
    proportions=Proportions(),
    girth=0.96,
    waist=0.13,
    skin=(226, 176, 146),
    hair=(92, 46, 26),
    hair_length=0.95,
)
MILO = Performer(
    proportions=Proportions(
        shoulders=0.40, hips=0.215, torso=0.51, head=0.265, upper_arm=0.29, forearm=0.265, thigh=0.43, shin=0.41,
        foot=0.24, stance=0.30,
    ),
    girth=1.18,
    waist=0.05,
    face_width=0.79,
    skin=(150, 102, 74),
    hair=(34, 28, 30),
    hair_length=0.1,
    iris=(72, 48, 30),
    lips=(132, 66, 62),
    shirt=Cloth("checks", (40, 128, 116), (226, 214, 150), 5),
    logo="bolt",
    ink=(250, 236, 120),
    sleeve=1.85,
    trousers=Cloth("bars", (86, 70, 62), (118, 98, 84), 8),
    trouser_leg=1.0,
    shoes=(60, 62, 70),
    soles=(236, 236, 230),
)  # fmt: skip

LOFT = Backdrop(camera=Camera(distance_m=4.6, eye_m=1.0, focal=1.70, horizon=0.555), poster_at_m=(-0.98, 1.52))
STUDIO = Backdrop(
    wall="panels",
    wall_colour=(112, 138, 152),
    joint_colour=(134, 158, 168),
    floor="tiles",
    floor_colour=(150, 148, 142),
    poster=((236, 214, 170), (204, 84, 60), (60, 84, 100)),
    poster_at_m=(1.55, 1.45),
    camera=Camera(distance_m=5.4, eye_m=1.25, focal=1.95, horizon=0.49),
    wall_m=1.6,
    seed=4,
)

# The training dances share no arm or leg move with the two routines below.
_TRAINING = (
    Dance("wave", "bounce", depth_m=0.15),
    Dance("jacks", "side_step", depth_m=-0.25, lag_beats=0.5),
    Dance("improvise", "wide_sway", depth_m=0.3, seed=1),
    Dance("flap", "squat", turn_deg=16, seed=3),
    Dance("on_hips", "kick_side", depth_m=0.15, seed=2),
    Dance("improvise", "march", depth_m=-0.3, seed=5),
    Dance("egyptian", "twist", depth_m=0.1, seed=1),
    Dance("improvise", "side_step", turn_deg=16, seed=6),
    Dance("pump", "wide_sway", turn_deg=18, depth_m=-0.2, seed=4),
    Dance("clap_over", "squat", depth_m=0.2, seed=6),
    Dance("improvise", "kick_side", depth_m=0.1, seed=9),
    Dance("improvise", "squat", depth_m=-0.3, seed=12),
)
_HELD_OUT = (
    Dance("robot", "lunge", depth_m=0.2, seed=7),
    Dance("snake", "step_touch", turn_deg=15, depth_m=0.15, seed=3),
)
_SOURCE = (
    Dance("cheer", "swing_leg", turn_deg=14, depth_m=0.35, seed=2),
    Dance("frame", "step_touch", depth_m=-0.35, seed=5),
)

TARGET_SIZE = (400, 480)
SOURCE_SIZE = (640, 360)
TARGET_TRAINING = Scene(ROSA, LOFT, _TRAINING, 5.0, TARGET_SIZE)
TARGET_TEST = Scene(ROSA, LOFT, _HELD_OUT, 4.4, TARGET_SIZE)
SOURCE = Scene(MILO, STUDIO, _SOURCE, 4.4, SOURCE_SIZE)
# The cluster demo trains both performers; the test scene is long enough for several chunks.
MILO_TRAINING = Scene(MILO, STUDIO, _TRAINING, 5.0, TARGET_SIZE)
MILO_TEST = Scene(MILO, STUDIO, (*_SOURCE, *_HELD_OUT), 5.0, SOURCE_SIZE)


def soundtrack(duration_s: float, bpm: float = BPM, rate_hz: int = 44100) -> NDArray[np.float32]:
    """Mono samples, float32 (N,) in [-1, 1]: a drum on each beat from 0 s, a click between beats, and a bass line."""
    count = round(duration_s * rate_hz)
    out = np.zeros(count)
    beat_s = 60 / bpm
    notes = (55.0, 55.0, 65.41, 49.0)
    for i in range(int(np.ceil(2 * duration_s / beat_s))):
        start = round(i * beat_s / 2 * rate_hz)
        t = np.arange(min(count - start, round(0.45 * beat_s * rate_hz))) / rate_hz
        fade = np.minimum(1, (0.45 * beat_s - t) / 0.02)
        if i % 2 == 0:
            drum = np.sin(2 * np.pi * (48 * t - 6 * np.exp(-t / 0.03)))
            out[start : start + len(t)] += 0.7 * drum * np.exp(-t / 0.11)
        else:
            noise = np.random.default_rng(i).uniform(-1, 1, len(t))
            out[start : start + len(t)] += 0.22 * noise * np.exp(-t / 0.02)
        out[start : start + len(t)] += 0.2 * fade * np.tanh(2 * np.sin(2 * np.pi * 2 * notes[i // 8 % 4] * t))
    return np.asarray(0.9 * out / max(1e-9, float(np.abs(out).max(initial=0))), np.float32)
