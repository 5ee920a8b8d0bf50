"""Dances: arm moves, leg moves and movement of the whole body, in time with a beat."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dancedist.synthetic.body import COLUMN, PARAMETERS

Floats = NDArray[np.floating]
Move = Callable[[Floats, int], dict[str, Floats | float]]
"""Beats (T,) and a seed -> values of some of `PARAMETERS`."""


@dataclass(frozen=True)
class Dance:
    """Names of an arm and a leg move, and how much the body turns (degrees) and moves (metres).

    `lag_beats` delays the arms relative to the legs; `seed` varies improvised moves.
    """

    arms: str
    legs: str
    turn_deg: float = 12.0
    side_m: float = 0.06
    depth_m: float = 0.0
    lag_beats: float = 0.0
    seed: int = 0

    def motion(self, beats: Floats) -> Floats:
        """The body's parameters at `beats`, floats (T,): float64 (T, P), metres and degrees as in `PARAMETERS`."""
        out = np.zeros((len(beats), len(PARAMETERS)))
        turn = self.turn_deg * _sin(beats, 8, 0.13 * self.seed)
        _add(out, {"turn": 0.6 * turn, "twist": 0.4 * turn, "head_turn": 0.4 * self.turn_deg * _sin(beats, 8, 0.3)})
        _add(out, {"side": self.side_m * _sin(beats, 16, 0.1), "depth": self.depth_m * _sin(beats, 16, 0.2)})
        _add(out, {"head_tilt": 5 * _sin(beats, 4), "head_nod": 3 + 4 * _sin(beats, 2), "bend": 2 + 2 * _sin(beats, 2)})
        _add(out, LEGS[self.legs](beats, self.seed))
        _add(out, ARMS[self.arms](beats - self.lag_beats, self.seed))
        return out


def routine(dances: Sequence[Dance], seconds_each: float, fps: float, bpm: float, blend_s: float = 0.8) -> Floats:
    """Motion of several dances in turn, each `seconds_each` long, blended over `blend_s` seconds at the transitions.

    Returns float64 (T, P), metres and degrees in the order of `PARAMETERS`.
    """
    frames_each, frames = round(seconds_each * fps), round(seconds_each * fps) * len(dances)
    beats = np.arange(frames) / fps * bpm / 60
    out = np.zeros((frames, len(PARAMETERS)))
    half = max(1e-9, blend_s * fps / 2)
    for i, dance in enumerate(dances):
        start, stop = i * frames_each, (i + 1) * frames_each
        low, high = max(0, int(start - half)), min(frames, int(stop + half) + 1)
        now = np.arange(low, high)
        weight = np.ones(len(now))
        if i > 0:
            weight *= _smooth((now - start + half) / (2 * half))
        if i < len(dances) - 1:
            weight *= 1 - _smooth((now - stop + half) / (2 * half))
        out[low:high] += weight[:, None] * dance.motion(beats[low:high])
    return out


def _add(out: Floats, values: dict[str, Floats | float]) -> None:
    for name, value in values.items():
        out[:, COLUMN[name]] += value


def _sin(beats: Floats, period: float, phase: float = 0.0) -> Floats:
    return np.asarray(np.sin(2 * np.pi * (beats / period + phase)))


def _swing(beats: Floats, period: float, phase: float = 0.0) -> Floats:
    """From 0 to 1 and back."""
    return np.asarray(0.5 - 0.5 * np.cos(2 * np.pi * (beats / period + phase)))


def _smooth(x: Floats) -> Floats:
    x = np.clip(x, 0, 1)
    return x * x * (3 - 2 * x)


def _robotic(beats: Floats, period: float, phase: float = 0.0) -> Floats:
    """From -1 to 1 and back with a pause at each end, like a robot."""
    return np.asarray(np.tanh(2.2 * _sin(beats, period, phase)) / np.tanh(2.2))


def _mix(low: float, high: float, part: Floats) -> Floats:
    return low + (high - low) * part


def _arms(
    left: tuple[Floats | float, ...], right: tuple[Floats | float, ...] | None = None
) -> dict[str, Floats | float]:
    names = ("upper_raise", "fore_raise", "upper_front", "fore_front")
    sides = (("l", left), ("r", left if right is None else right))
    return {f"{s}_{n}": v for s, values in sides for n, v in zip(names, values, strict=False)}


def _feet(**values: tuple[Floats | float, Floats | float]) -> dict[str, Floats | float]:
    """Parameters of the feet; each value is (left, right)."""
    return {f"{s}_foot_{n}": v[i] for n, v in values.items() for i, s in enumerate("lr")}


# Arms, in degrees: raise of upper arm and forearm, then each one's angle to the front.


def _wave(b: Floats, seed: int) -> dict[str, Floats | float]:
    s, late = _sin(b, 4), _sin(b, 4, -0.1)
    return _arms((142 + 22 * s, 160 + 28 * late, 12, 12), (142 - 22 * s, 160 - 28 * late, 12, 12))


def _jacks(b: Floats, seed: int) -> dict[str, Floats | float]:
    up = _swing(b, 4)
    return _arms((_mix(22, 138, up), _mix(14, 158, up), 8, 14))


def _flap(b: Floats, seed: int) -> dict[str, Floats | float]:
    return _arms((80 + 32 * _sin(b, 4), 88 + 46 * _sin(b, 4, -0.13), 10, 15))


def _pump(b: Floats, seed: int) -> dict[str, Floats | float]:
    s = _sin(b, 2)
    return _arms((28 + 14 * s, 118 + 28 * s, 20, 30), (28 - 14 * s, 118 - 28 * s, 20, 30))


def _on_hips(b: Floats, seed: int) -> dict[str, Floats | float]:
    one, other = _swing(b, 8), _swing(b, 8, 0.5)
    return _arms((_mix(44, 100, one), _mix(-38, 92, one), 0, 12), (_mix(44, 100, other), _mix(-38, 92, other), 0, 12))


def _egyptian(b: Floats, seed: int) -> dict[str, Floats | float]:
    s = _robotic(b, 8)
    return _arms((84 + 10 * s, 90 + 80 * s, 5, 10), (84 - 10 * s, 90 - 80 * s, 5, 10))


def _clap_over(b: Floats, seed: int) -> dict[str, Floats | float]:
    c = _swing(b, 2)
    return _arms((_mix(108, 140, c), _mix(148, 196, c), 10, 15))


def _improvise(b: Floats, seed: int) -> dict[str, Floats | float]:
    """Sums of slow waves of unrelated periods: the whole range of an arm, independently for both arms."""
    rng = np.random.default_rng(1000 + seed)
    sides = []
    for _ in "lr":
        upper = 84 + 44 * _sin(b, rng.uniform(5, 7), rng.random()) + 24 * _sin(b, rng.uniform(2.7, 4), rng.random())
        elbow = 22 + 48 * _sin(b, rng.uniform(4, 6), rng.random()) + 24 * _sin(b, rng.uniform(2.5, 3.5), rng.random())
        sides.append((upper, upper + elbow, 14, 22))
    return _arms(sides[0], sides[1])


def _point(b: Floats, seed: int) -> dict[str, Floats | float]:
    up = _swing(b, 4)
    return _arms((46, -36, 0, 10), (_mix(-4, 138, up), _mix(-36, 140, up), 25, 15))


def _robot(b: Floats, seed: int) -> dict[str, Floats | float]:
    s, other = _robotic(b, 4), _robotic(b, 8, 0.25)
    return _arms((62 + 26 * other, 90 + 66 * s, 8, 15), (62 - 26 * other, 90 - 66 * _robotic(b, 4, 0.12), 8, 15))


def _snake(b: Floats, seed: int) -> dict[str, Floats | float]:
    def ripple(lag: float) -> Floats:
        return _sin(b, 4, -lag)

    return _arms(
        (92 + 24 * ripple(0.2), 92 + 36 * ripple(0.36), 8, 12), (92 + 24 * ripple(0), 92 - 36 * ripple(-0.16), 8, 12)
    )


def _frame(b: Floats, seed: int) -> dict[str, Floats | float]:
    """One hand frames the head, the other reaches out; they alternate."""
    s = _swing(b, 8)
    return _arms((_mix(118, 72, s), _mix(215, 70, s), 5, 12), (_mix(72, 118, s), _mix(70, 215, s), 5, 12))


def _cheer(b: Floats, seed: int) -> dict[str, Floats | float]:
    up, out = _swing(b, 4), _swing(b, 8, 0.2)
    return _arms((_mix(38, 134, up), _mix(60, 140, up), 8, 14), (_mix(60, 126, out), _mix(20, 150, up), 8, 14))


def _lasso(b: Floats, seed: int) -> dict[str, Floats | float]:
    return _arms(
        (134 + 14 * _sin(b, 2), 172 + 30 * _sin(b, 2, 0.2), 10, 15 + 12 * _sin(b, 2, 0.45)), (46, -36 + 8 * _sin(b, 2))
    )


# Legs, in metres: offset of the feet from their stance, sway and drop of the hips.


def _bounce(b: Floats, seed: int) -> dict[str, Floats | float]:
    return {"drop": 0.02 + 0.07 * _swing(b, 1), "sway": 0.04 * _sin(b, 2), "tilt": 3 * _sin(b, 2)}


def _side_step(b: Floats, seed: int) -> dict[str, Floats | float]:
    s = _sin(b, 4)
    left, right = np.clip(s, 0, 1), np.clip(-s, 0, 1)
    feet = _feet(out=(0.24 * left, 0.24 * right), lift=(0.05 * _swing(b, 2) * (s > 0), 0.05 * _swing(b, 2) * (s < 0)))
    return {**feet, "drop": 0.03 + 0.02 * _swing(b, 1), "sway": 0.1 * s, "tilt": 4 * s}


def _squat(b: Floats, seed: int) -> dict[str, Floats | float]:
    down = _swing(b, 4)
    return {**_feet(out=(0.1, 0.1)), "drop": 0.04 + 0.2 * down, "bend": 9 * down, "sway": 0.03 * _sin(b, 4)}


def _kick_side(b: Floats, seed: int) -> dict[str, Floats | float]:
    s = _sin(b, 4)
    left, right = np.clip(s, 0, 1) ** 2, np.clip(-s, 0, 1) ** 2
    feet = _feet(out=(0.4 * left, 0.4 * right), lift=(0.3 * left, 0.3 * right), point=(25 * left, 25 * right))
    return {**feet, "drop": 0.04, "sway": -0.09 * s, "tilt": -7 * s}


def _march(b: Floats, seed: int) -> dict[str, Floats | float]:
    s = _sin(b, 2)
    left, right = np.clip(s, 0, 1) ** 2, np.clip(-s, 0, 1) ** 2
    feet = _feet(
        lift=(0.24 * left, 0.24 * right),
        front=(0.1 * left, 0.1 * right),
        point=(35 * left, 35 * right),
        out=(0.03 * left, 0.03 * right),
    )
    return {**feet, "drop": 0.03, "sway": -0.05 * s, "tilt": -3 * s}


def _wide_sway(b: Floats, seed: int) -> dict[str, Floats | float]:
    s = _sin(b, 4)
    return {**_feet(out=(0.17, 0.17)), "drop": 0.05 + 0.04 * _swing(b, 2), "sway": 0.12 * s, "tilt": 6 * s}


def _twist(b: Floats, seed: int) -> dict[str, Floats | float]:
    return {"turn": 22 * _sin(b, 2), "twist": -12 * _sin(b, 2), "drop": 0.06 + 0.05 * _swing(b, 4)}


def _lunge(b: Floats, seed: int) -> dict[str, Floats | float]:
    s = _robotic(b, 4)
    left, right = np.clip(s, 0, 1), np.clip(-s, 0, 1)
    return {**_feet(out=(0.1 + 0.22 * left, 0.1 + 0.22 * right)), "drop": 0.06 + 0.07 * np.abs(s), "sway": 0.13 * s}


def _swing_leg(b: Floats, seed: int) -> dict[str, Floats | float]:
    s = _sin(b, 8)
    left, right = np.clip(s, 0, 1) * _swing(b, 2), np.clip(-s, 0, 1) * _swing(b, 2)
    feet = _feet(
        out=(0.3 * left, 0.3 * right),
        lift=(0.2 * left, 0.2 * right),
        point=(20 * left, 20 * right),
        front=(0.05 * left, 0.05 * right),
    )
    return {**feet, "drop": 0.03 + 0.03 * _swing(b, 2), "sway": -0.09 * s, "tilt": -3 * s}


def _step_touch(b: Floats, seed: int) -> dict[str, Floats | float]:
    s = _sin(b, 4)
    feet = _feet(
        out=(0.1 + 0.1 * s, 0.1 - 0.1 * s),
        front=(0.08 * s, -0.08 * s),
        lift=(0.06 * _swing(b, 2), 0.06 * _swing(b, 2, 0.5)),
    )
    return {**feet, "drop": 0.05 + 0.03 * _swing(b, 1), "sway": 0.09 * s, "tilt": 4 * s, "side": 0.08 * s}


ARMS: dict[str, Move] = {
    "wave": _wave,
    "jacks": _jacks,
    "flap": _flap,
    "pump": _pump,
    "on_hips": _on_hips,
    "egyptian": _egyptian,
    "clap_over": _clap_over,
    "improvise": _improvise,
    "point": _point,
    "robot": _robot,
    "snake": _snake,
    "frame": _frame,
    "cheer": _cheer,
    "lasso": _lasso,
}
LEGS: dict[str, Move] = {
    "bounce": _bounce,
    "side_step": _side_step,
    "squat": _squat,
    "kick_side": _kick_side,
    "march": _march,
    "wide_sway": _wide_sway,
    "twist": _twist,
    "lunge": _lunge,
    "swing_leg": _swing_leg,
    "step_touch": _step_touch,
}
