"""Appearance of a performer."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from dancedist.synthetic.body import Proportions
from dancedist.synthetic.cloth import Cloth, Colour

STRIPES = Cloth("stripes", (206, 58, 52), (246, 236, 218), 6)
DENIM = Cloth("denim", (46, 68, 120), (66, 92, 150), 8)


@dataclass(frozen=True)
class Performer:
    """Body, clothes, hair and face.

    `girth` scales the width of all limbs. `sleeve` and `trouser_leg` are the lengths of the clothes: 0 none, 1 to the
    elbow or knee, 2 to the wrist or ankle.
    """

    proportions: Proportions = field(default_factory=Proportions)
    girth: float = 1.0
    waist: float = 0.10
    face_width: float = 0.74
    skin: Colour = (222, 172, 140)
    hair: Colour = (66, 40, 26)
    hair_length: float = 0.3
    iris: Colour = (60, 90, 60)
    lips: Colour = (176, 84, 80)
    shirt: Cloth = STRIPES
    logo: Literal["star", "bolt", "heart", "none"] = "star"
    ink: Colour = (250, 205, 70)
    sleeve: float = 0.6
    trousers: Cloth = DENIM
    trouser_leg: float = 1.9
    shoes: Colour = (238, 238, 232)
    soles: Colour = (214, 60, 56)
