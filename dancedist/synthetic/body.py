"""Forward kinematics: from the parameters of a dance to joints in space."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dancedist.pose.topology import HALPE26

Floats = NDArray[np.floating]

# Parameters of a motion, one per column: lengths in metres, angles in degrees. `l_` and `r_` are the dancer's sides.
# An arm's `raise` is 0 hanging, 90 level, 180 up; its `front` rotates it from sideways (0) to straight ahead (90).
_ARM = "upper_raise upper_front fore_raise fore_front"
_LEG = "foot_out foot_front foot_lift foot_point"
PARAMETERS = (
    *"side depth drop sway turn bend tilt twist head_turn head_nod head_tilt".split(),
    *(f"{side}_{name}" for side in "lr" for name in f"{_ARM} {_LEG}".split()),
)
COLUMN = {name: i for i, name in enumerate(PARAMETERS)}


@dataclass(frozen=True)
class Proportions:
    """Lengths between joints, in metres."""

    shoulders: float = 0.37
    hips: float = 0.20
    torso: float = 0.47
    neck: float = 0.10
    head: float = 0.26
    upper_arm: float = 0.28
    forearm: float = 0.25
    thigh: float = 0.42
    shin: float = 0.39
    foot: float = 0.23
    stance: float = 0.26

    @property
    def ankle(self) -> float:
        """Height of the ankle above the floor, m."""
        return 0.45 * self.foot

    @property
    def leg(self) -> float:
        """Length of a straight leg from hip to ankle, m."""
        return self.thigh + self.shin


def joints(proportions: Proportions, motion: Floats) -> Floats:
    """Joints of HALPE26 in space: motion, floats (T, P) in the order of `PARAMETERS` -> float64 (T, 26, 3) metres.

    x points to the image's right, y up from the floor, z to the camera; the dancer faces the camera.
    """
    p = proportions
    m = {name: motion[:, i] for name, i in COLUMN.items()}
    out = np.zeros((len(motion), len(HALPE26), 3))
    at = HALPE26.index
    pelvis = _turn(m["turn"], 0.35 * m["bend"], 0.4 * m["tilt"])
    chest = _turn(m["turn"] + m["twist"], m["bend"], m["tilt"])
    hip = np.stack([m["side"] + m["sway"], _hip_height(p, m), m["depth"]], axis=1)
    neck = hip + chest @ np.array([0, p.torso, 0])
    out[:, at["hip"]], out[:, at["neck"]] = hip, neck
    for side, sign in (("left", 1.0), ("right", -1.0)):
        shoulder = neck + chest @ np.array([sign * p.shoulders / 2, 0, 0])
        _set(out, f"{side}_", _arm(p, m, side[0], sign, shoulder, chest))
        _set(out, f"{side}_", _leg(p, m, side[0], sign, hip + pelvis @ np.array([sign * p.hips / 2, 0, 0])))
    out[:, at["neck"]] = (out[:, at["left_shoulder"]] + out[:, at["right_shoulder"]]) / 2
    head = _turn(m["turn"] + m["twist"] + m["head_turn"], 0.5 * m["bend"] + m["head_nod"], m["tilt"] + m["head_tilt"])
    _set(out, "", _head(p, neck + chest @ np.array([0, p.neck, 0]), head))
    return out


def _set(out: Floats, prefix: str, parts: dict[str, Floats]) -> None:
    for name, xyz in parts.items():
        out[:, HALPE26.index[prefix + name]] = xyz


def _turn(yaw: Floats, pitch: Floats, roll: Floats) -> Floats:
    """Rotations (T, 3, 3) from degrees: yaw turns the face to the image's right, pitch bows, roll leans right."""
    (sy, sp, sr), (cy, cp, cr) = (f(np.radians([yaw, pitch, roll])) for f in (np.sin, np.cos))
    zero, one = np.zeros_like(cy), np.ones_like(cy)
    about_y = np.stack([cy, zero, sy, zero, one, zero, -sy, zero, cy], axis=1).reshape(-1, 3, 3)
    about_x = np.stack([one, zero, zero, zero, cp, -sp, zero, sp, cp], axis=1).reshape(-1, 3, 3)
    about_z = np.stack([cr, sr, zero, -sr, cr, zero, zero, zero, one], axis=1).reshape(-1, 3, 3)
    return np.asarray(about_y @ about_x @ about_z)


def _hip_height(p: Proportions, m: dict[str, Floats]) -> Floats:
    """Height of the hips, low enough that both feet are in reach of the legs."""
    height = p.leg * 0.995 + p.ankle - m["drop"]
    for side, sign in (("l", 1.0), ("r", -1.0)):
        across = sign * (p.stance / 2 + m[f"{side}_foot_out"]) - m["sway"] - sign * p.hips / 2
        reach = np.hypot(across, m[f"{side}_foot_front"])
        top = np.sqrt(np.maximum((0.99 * p.leg) ** 2 - reach**2, 0.01)) + p.ankle + m[f"{side}_foot_lift"]
        height = -0.01 * np.logaddexp(-height / 0.01, -top / 0.01)  # smooth minimum
    return np.asarray(height)


def _arm(
    p: Proportions, m: dict[str, Floats], side: str, sign: float, shoulder: Floats, chest: Floats
) -> dict[str, Floats]:
    def bone(name: str, length: float) -> Floats:
        up, front = np.radians(m[f"{side}_{name}_raise"]), np.radians(m[f"{side}_{name}_front"])
        ahead = np.abs(np.sin(up)) * np.sin(front)
        direction = np.stack([sign * np.sin(up) * np.cos(front), -np.cos(up), ahead], axis=1)
        return np.asarray(length * (chest @ direction[:, :, None])[:, :, 0])

    # A raised arm moves its shoulder upwards and inwards.
    shrug = 0.5 - 0.5 * np.cos(np.radians(np.clip(m[f"{side}_upper_raise"], 0, 180)))
    lifted = shoulder + (chest @ np.array([-0.10 * sign, 0.13, 0])) * p.shoulders * shrug[:, None]
    elbow = lifted + bone("upper", p.upper_arm)
    return {"shoulder": lifted, "elbow": elbow, "wrist": elbow + bone("fore", p.forearm)}


def _leg(p: Proportions, m: dict[str, Floats], side: str, sign: float, hip: Floats) -> dict[str, Floats]:
    out, front, lift = (m[f"{side}_foot_{name}"] for name in ("out", "front", "lift"))
    turn = np.radians(0.6 * m["turn"])
    foot = np.stack([sign * (p.stance / 2 + out), np.zeros_like(out), front], axis=1)
    foot = np.stack(
        [foot[:, 0] * np.cos(turn) + foot[:, 2] * np.sin(turn), p.ankle + lift, foot[:, 2] * np.cos(turn)], axis=1
    )
    ankle = foot + np.stack([m["side"], np.zeros_like(out), m["depth"]], axis=1)
    # Inverse kinematics of two bones; the knee bends forward and outward.
    direction = ankle - hip
    reach = np.linalg.norm(direction, axis=1)
    direction /= reach[:, None]
    reach = np.minimum(reach, 0.998 * p.leg)
    along = (p.thigh**2 - p.shin**2 + reach**2) / (2 * reach)
    pole = np.stack([np.sin(turn) + 0.55 * sign, np.zeros_like(turn), np.cos(turn)], axis=1)
    pole -= np.sum(pole * direction, axis=1, keepdims=True) * direction
    pole /= np.linalg.norm(pole, axis=1, keepdims=True)
    knee = hip + along[:, None] * direction + np.sqrt(np.maximum(p.thigh**2 - along**2, 0))[:, None] * pole
    ankle = hip + reach[:, None] * direction
    foot_parts = _foot(p, sign, ankle, turn + 0.5 * sign, np.radians(m[f"{side}_foot_point"]))
    return {"hip": hip, "knee": knee, "ankle": ankle, **foot_parts}


def _foot(p: Proportions, sign: float, ankle: Floats, yaw: Floats, point: Floats) -> dict[str, Floats]:
    def part(ahead: float, under: float, out: float) -> Floats:
        # Offsets ahead of the ankle and below it; `point` lowers the toes.
        fore = ahead * np.cos(point) - under * np.sin(point)
        down = ahead * np.sin(point) + under * np.cos(point)
        x, z = fore * np.sin(yaw) + out * np.cos(yaw), fore * np.cos(yaw) - out * np.sin(yaw)
        return ankle + np.stack([x, -down, z], axis=1)

    return {
        "heel": part(-0.22 * p.foot, 0.56 * p.ankle, 0),
        "big_toe": part(0.68 * p.foot, 0.76 * p.ankle, -0.02 * p.foot * sign),
        "small_toe": part(0.64 * p.foot, 0.78 * p.ankle, 0.10 * p.foot * sign),
    }


# Points of the head relative to its centre, in heights of the head: to the dancer's left, up, forward.
_HEAD = {
    "nose": (0, -0.07, 0.46),
    "left_eye": (0.14, 0.06, 0.38),
    "right_eye": (-0.14, 0.06, 0.38),
    "left_ear": (0.285, 0.0, 0.02),
    "right_ear": (-0.285, 0.0, 0.02),
    "head_top": (0, 0.5, 0),
}


def _head(p: Proportions, pivot: Floats, head: Floats) -> dict[str, Floats]:
    middle = pivot + head @ np.array([0, 0.55 * p.head, 0.08 * p.head])
    return {name: middle + head @ (p.head * np.array(offset)) for name, offset in _HEAD.items()}
