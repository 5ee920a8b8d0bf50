"""Every setting of dancedist: frozen pydantic models, TOML in, resolved JSON out, a fingerprint.

The defaults are the paper's numbers. A preset (`presets/*.toml`) changes some of them, a user's TOML file
changes some more; unknown keys are refused.
"""

from __future__ import annotations

import hashlib
import json
import tomllib
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from dancedist.errors import RecipeInvalid


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class VideoRecipe(_Part):
    """Bounds that are checked before memory is spent, and how films are encoded."""

    max_frame_pixels: int = Field(7680 * 4320, gt=0, description="pixels per frame")
    max_frames: int = Field(1_000_000, gt=0, description="frames per video")
    max_duration_s: float = Field(6 * 3600.0, gt=0, description="seconds per video")
    crf: int = Field(16, ge=0, le=51, description="H.264 constant rate factor: lower is better")
    speed: str = Field("medium", description="x264 preset")


class PoseRecipe(_Part):
    """How poses are found, followed and smoothed."""

    topology: Literal["halpe26", "coco17", "wholebody133"] = "halpe26"
    detector: str = Field("person-detector", description="weights name or an ONNX file")
    model: str = Field("pose-halpe26", description="weights name or an ONNX file")
    backend: Literal["auto", "openvino", "onnxruntime"] = "auto"
    precision: Literal["f32", "bf16"] = "f32"
    threads: int = Field(0, ge=0, description="threads of one network; 0: as many as there are cores")
    segment_frames: int = Field(256, gt=0, description="detector and tracker start afresh at this grid")
    detect_every_frames: int = Field(10, gt=0, description="between them boxes come from the last pose")
    max_people: int = Field(5, gt=0)
    min_person_score: float = Field(0.35, ge=0, le=1, description="mean keypoint score under which a box is dropped")
    min_keypoint_score: float = Field(0.3, ge=0, le=1, description="a keypoint under it is absent")
    smoothing: Literal["median", "one_euro", "none"] = "median"
    smoothing_frames: int = Field(7, gt=0, description="window of the median, odd")


class ExtractionRecipe(_Part):
    """How poses are extracted on a cluster; nothing here changes a bit of them."""

    workers: int = Field(0, ge=0, description="processes that find people; 0: as many as the cluster holds")
    worker_cpus: float = Field(1.0, gt=0, description="cores of one worker; it leaves a tenth to reading and joining")
    worker_gpus: float = Field(0.0, ge=0, description="part of a GPU of one worker; 0: they compute on processors")
    worker_threads: int = Field(1, gt=0, description="threads of a worker's networks; more workers are faster")
    attempts: int = Field(3, gt=0, description="a segment that costs its worker so often is given up")
    segment_timeout_s: float = Field(1800.0, gt=0, description="a worker that is silent for longer is replaced")
    cache_gb: float = Field(50.0, gt=0, description="disk of a node for videos fetched from S3")


class DistributedRecipe(_Part):
    """How the workers of one training share it; what is learnt is the same but for the rounding of sums."""

    zero_stage: int = Field(1, ge=0, le=3, description="shared out: 1 the optimiser, 2 gradients too, 3 weights too")
    elastic: bool = Field(False, description="goes on with fewer workers where some are lost; needs zero_stage 0")

    @model_validator(mode="after")
    def _what_is_shared_out_is_for_so_many(self) -> Self:
        if self.elastic and self.zero_stage:
            raise ValueError("elastic needs zero_stage 0: what others share out is for one number of workers")
        return self


class RetargetRecipe(_Part):
    """The ICCV paper's global normalization (eqs. 7-9)."""

    alpha: float = Field(0.7, gt=0, description="how far beyond the median, against the near side, 'far' may lie")
    height_band: float = Field(0.05, gt=0, description="part of the depth range in which the height there is sought")
    align_x: bool = Field(True, description="align the medians of x too; the paper does not")


class FigureRecipe(_Part):
    """How stick figures are drawn."""

    min_score: float = Field(0.3, ge=0, le=1, description="a keypoint under it is not drawn")
    limb_width: float = Field(0.016, gt=0, description="width of a limb, as a part of the picture's longer side")


class DataRecipe(_Part):
    """How a target's frames are split, by contiguous blocks of time."""

    validation_fraction: float = Field(0.05, gt=0, lt=0.4)
    test_fraction: float = Field(0.12, gt=0, lt=0.4)
    gap_s: float = Field(1.0, ge=0, description="seconds left out between the blocks")
    min_train_frames: int = Field(48, gt=1, description="fewer usable frames are refused")
    min_present_fraction: float = Field(0.5, ge=0, le=1, description="of the frames, with a dancer in them")
    cache_gb: float = Field(200.0, gt=0, description="disk of a node for one target's frames")


class GeneratorRecipe(_Part):
    """pix2pixHD's global generator."""

    pixels: int = Field(512 * 256, gt=0, description="area of what it sees; the target's aspect is kept")
    filters: int = Field(64, gt=0)
    downsamplings: int = Field(4, gt=0)
    blocks: int = Field(9, gt=0)
    patch: int = Field(1, gt=0, description="the network works on patches of so many pixels a side; 1 as in the paper")
    backdrop: bool = Field(False, description="paint over the empty stage; not in the paper")
    window: bool = Field(False, description="see a window round the dancer only; needs a backdrop; not in the paper")


class LocalRecipe(_Part):
    """pix2pixHD's local enhancer, at twice the global generator's size: what is different while both are trained."""

    blocks: int = Field(3, gt=0)
    scales: int = Field(3, gt=0, description="of the discriminator")
    perceptual: float = Field(10.0, ge=0, description="weight per frame")
    epochs: float = Field(30.0, gt=0)
    max_steps: int | None = Field(None, gt=0)


class FaceRecipe(_Part):
    """The FaceGAN: a residual on the face of the finished generator, which learns no more meanwhile."""

    pixels: int = Field(128, gt=0, multiple_of=2, description="side of the crop, whatever the face's size")
    filters: int = Field(64, gt=0)
    downsamplings: int = Field(3, gt=0)
    blocks: int = Field(5, gt=0)
    paints_over: bool = Field(False, description="over the generator's face, through a mask; not in the paper")
    discriminator_filters: int = Field(64, gt=0)
    perceptual: float = Field(5.0, ge=0)
    l1: float = Field(0.0, ge=0, description="not in the paper")
    epochs: float = Field(5.0, gt=0)
    max_steps: int | None = Field(None, gt=0)


class DiscriminatorRecipe(_Part):
    """Multi-scale 70x70 PatchGAN."""

    filters: int = Field(64, gt=0)
    layers: int = Field(3, gt=0)
    scales: int = Field(2, gt=0)


class LossRecipe(_Part):
    """Weights of the generator's losses; the adversarial one weighs 1."""

    feature_matching: float = Field(10.0, ge=0)
    perceptual: float = Field(5.0, ge=0, description="per frame")
    perceptual_backbone: Literal["vgg19", "vgg16", "none"] = "vgg19"
    perceptual_stages: int = Field(5, gt=0, le=5, description="stages of the backbone that are compared")
    perceptual_crop_px: int = Field(
        0, ge=0, description="side of the squares on the head and on a part at random; 0: the whole picture"
    )
    l1: float = Field(0.0, ge=0, description="not in the paper; short trainings need it")
    motion: float = Field(0.0, ge=0, description="L1 of what changes from frame to frame, where temporal; the same")


class TrainingRecipe(_Part):
    """Optimiser, length and what is kept on the way."""

    epochs: float = Field(5.0, gt=0)
    max_steps: int | None = Field(None, gt=0, description="ends training before `epochs` are through")
    batch_pairs: int = Field(1, gt=0)
    learning_rate: float = Field(2e-4, gt=0)
    betas: tuple[float, float] = (0.5, 0.999)
    accumulate: int = Field(1, gt=0, description="a batch is seen in so many parts, to save memory")
    save_memory: bool = Field(False, description="computes twice what it would keep; the same but for roundings")
    clip_norm: float = Field(0.0, ge=0, description="largest norm of a network's gradient; 0: any. Not in the paper")
    decay_from: float = Field(1.0, ge=0, le=1, description="part of training after which the rate falls to 0")
    turn_degrees: float = Field(
        0.0, ge=0, le=90, description="half of the pairs are turned by up to this; needs a window"
    )
    temporal: bool = Field(True, description="the paper's temporal smoothing; false: frame by frame")
    precision: Literal["auto", "fp32", "bf16"] = Field("auto", description="auto: bf16 where the processor has it")
    channels_last: bool = Field(
        False, description="the channels of a pixel lie together, on a processor in the VGG alone: faster in bf16"
    )
    compiled: bool = Field(False, description="compile the networks, on a GPU; costs a minute, once")
    augment: bool = Field(False, description="DiffAugment: the discriminator sees colours and places changed")
    ema_decay: float = Field(0.999, ge=0, lt=1)
    seed: int = 0
    checkpoint_every_steps: int = Field(500, gt=0)
    sample_every_steps: int = Field(500, gt=0)
    log_every_steps: int = Field(10, gt=0)


class RenderRecipe(_Part):
    """How a dancer is rendered; nothing of it changes what is learnt."""

    precision: Literal["fp32", "bf16"] = Field(
        "fp32", description="bf16: 3 times as fast on a processor that has it; others render in fp32"
    )


# The stages of a training, in their order.
Stage = Literal["global", "local", "face"]
STAGES: tuple[Stage, ...] = ("global", "local", "face")


class Recipe(_Part):
    """All settings."""

    stages: tuple[Stage, ...] = Field(STAGES, description="stages of training, the global one first")
    video: VideoRecipe = VideoRecipe()
    pose: PoseRecipe = PoseRecipe()
    extraction: ExtractionRecipe = ExtractionRecipe()
    distributed: DistributedRecipe = DistributedRecipe()
    retarget: RetargetRecipe = RetargetRecipe()
    figure: FigureRecipe = FigureRecipe()
    data: DataRecipe = DataRecipe()
    generator: GeneratorRecipe = GeneratorRecipe()
    discriminator: DiscriminatorRecipe = DiscriminatorRecipe()
    losses: LossRecipe = LossRecipe()
    training: TrainingRecipe = TrainingRecipe()
    local: LocalRecipe = LocalRecipe()
    face: FaceRecipe = FaceRecipe()
    render: RenderRecipe = RenderRecipe()

    @property
    def multiple(self) -> int:
        """What the sides of the picture that its generator sees must be divisible by."""
        side = self.generator.patch * 2**self.generator.downsamplings
        return int(side * (2 if "local" in self.stages else 1))

    @property
    def pixels(self) -> int:
        """Area of what its generator sees: with a local enhancer four times that of the global one."""
        return self.generator.pixels * (4 if "local" in self.stages else 1)

    def at_stage(self, stage: Stage) -> Recipe:
        """The recipe as this stage of training reads it: nothing of later ones, and the local one's own numbers."""
        stages = self.stages[: self.stages.index(stage) + 1]
        changed: dict[str, object] = {"stages": stages}
        if stage == "local":
            own = self.local
            length = {"epochs": own.epochs, "max_steps": own.max_steps}
            changed["training"] = self.training.model_copy(update=length)
            changed["losses"] = self.losses.model_copy(update={"perceptual": own.perceptual})
            changed["discriminator"] = self.discriminator.model_copy(update={"scales": own.scales})
        if stage == "face":
            length = {"epochs": self.face.epochs, "max_steps": self.face.max_steps}
            changed["training"] = self.training.model_copy(update=length)
        return self.model_copy(update=changed)

    @model_validator(mode="after")
    def _stages_in_their_order(self) -> Self:
        if self.stages[:1] != ("global",) or list(self.stages) != [s for s in STAGES if s in self.stages]:
            raise ValueError(f"stages are the global one and others of {', '.join(STAGES)}, in that order")
        if "local" in self.stages and self.generator.filters % 2:
            raise ValueError("generator.filters must be even: the local enhancer has half of them")
        if "face" in self.stages and self.face.pixels % 2**self.face.downsamplings:
            raise ValueError("face.pixels must be divisible by 2 to the power of face.downsamplings")
        if self.training.batch_pairs % self.training.accumulate:
            raise ValueError("training.batch_pairs must be divisible by training.accumulate")
        return self

    @model_validator(mode="after")
    def _a_window_needs_a_backdrop(self) -> Self:
        if self.generator.window and not self.generator.backdrop:
            raise ValueError("generator.window needs generator.backdrop, which is shown round it")
        if self.training.turn_degrees and not self.generator.window:
            raise ValueError("training.turn_degrees needs generator.window, which hides what a turned picture lacks")
        if self.generator.window and self.figure.min_score > self.pose.min_keypoint_score:
            raise ValueError("figure.min_score over pose.min_keypoint_score draws empty figures, which have no window")
        return self


PRESETS = ("quick", "fast", "paper")


def load_recipe(preset: str = "paper", file: Path | None = None, overrides: Mapping[str, Any] | None = None) -> Recipe:
    """The preset's recipe with the TOML file's settings on top, and `overrides` on those. Raises RecipeInvalid."""
    if preset not in PRESETS:
        raise RecipeInvalid("no such preset", expected=" or ".join(PRESETS), got=preset)
    settings = tomllib.loads((resources.files("dancedist") / "presets" / f"{preset}.toml").read_text())
    if file is not None:
        settings = merged(settings, _read_toml(file))
    return parse_recipe(merged(settings, overrides or {}), file)


def parse_recipe(settings: dict[str, Any], file: Path | None = None) -> Recipe:
    """Recipe from plain data; every fault is named in one RecipeInvalid."""
    try:
        return Recipe.model_validate(settings)
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise RecipeInvalid(faults, file=file) from error


def altered(recipe: Recipe, file: Path, parts: Sequence[str]) -> Recipe:
    """A recipe with a TOML file's settings on top, of these parts only. Raises RecipeInvalid."""
    settings = _read_toml(file)
    if others := sorted(set(settings) - set(parts)):
        expected, got = " or ".join(f"[{part}]" for part in parts), ", ".join(f"[{part}]" for part in others)
        raise RecipeInvalid("changes what the dancer was trained with", file=file, expected=expected, got=got)
    return parse_recipe(merged(recipe.model_dump(mode="json"), settings), file)


def fingerprint(*parts: BaseModel | str | int | float | None) -> str:
    """16 hex digits that change when any part does. What a stage reads goes in, nothing else."""
    plain = [p.model_dump(mode="json") if isinstance(p, BaseModel) else p for p in parts]
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()[:16]


def file_sha256(path: Path) -> str:
    """Content of a file, as 64 hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _read_toml(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text())
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise RecipeInvalid("cannot be read", file=file, expected="a TOML file", got=str(error)) from error


def merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Settings with others on top, table by table."""
    both = {k: merged(base[k], v) for k, v in over.items() if isinstance(v, dict) and isinstance(base.get(k), dict)}
    return {**base, **over, **both}
