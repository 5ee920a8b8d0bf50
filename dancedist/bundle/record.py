"""The record of a dancer: the file `dancer.json` of a bundle."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from dancedist.recipe.schema import Recipe
from dancedist.video.letterbox import Letterbox, letterbox

FORMAT = 1
# Preview picture of a dancer.
PORTRAIT = "portrait.png"


class Provenance(BaseModel):
    """Origin of a dancer: its video, poses and training, the machine and the versions."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    video: str
    video_sha256: str
    poses_fingerprint: str
    training_fingerprint: str
    steps: int
    train_frames: int
    seconds: float
    machine: str
    versions: dict[str, str]
    finished: str


class Dancer(BaseModel):
    """Everything about a dancer except its weights. Sizes are (width, height) px."""

    model_config = ConfigDict(frozen=True, extra="forbid", serialize_by_alias=True, validate_by_name=True)

    format: int = FORMAT
    name: str
    recipe: Recipe
    topology: str
    fps: str
    frame_size: tuple[int, int]
    picture_pixels: int
    stats: dict[str, Any]
    weights_sha256: str = ""
    face_sha256: str | None = None
    background_sha256: str | None = Field(None, alias="stage_sha256")
    provenance: Provenance
    metrics: dict[str, dict[str, dict[str, float]]] = {}
    settling_frames: int | None = None

    @property
    def letterbox(self) -> Letterbox:
        """How the target's frames are placed in the network's picture."""
        return letterbox(self.frame_size, self.picture_pixels, self.recipe.multiple)
