"""A drawn dancer with known joints: ground truth for poses, retargeting and motion transfer."""

from dancedist.synthetic.backdrop import Backdrop
from dancedist.synthetic.body import Proportions, joints
from dancedist.synthetic.camera import Camera
from dancedist.synthetic.cloth import Cloth
from dancedist.synthetic.dances import ARMS, LEGS, Dance, routine
from dancedist.synthetic.draw import draw
from dancedist.synthetic.performer import Performer
from dancedist.synthetic.scenes import (
    MILO_TEST,
    MILO_TRAINING,
    SOURCE,
    TARGET_TEST,
    TARGET_TRAINING,
    Scene,
    film,
    soundtrack,
)

__all__ = [
    "ARMS",
    "LEGS",
    "MILO_TEST",
    "MILO_TRAINING",
    "SOURCE",
    "TARGET_TEST",
    "TARGET_TRAINING",
    "Backdrop",
    "Camera",
    "Cloth",
    "Dance",
    "Performer",
    "Proportions",
    "Scene",
    "draw",
    "film",
    "joints",
    "routine",
    "soundtrack",
]
