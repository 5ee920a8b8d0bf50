"""Every setting of dancedist, as frozen pydantic models.

The defaults are the paper's numbers. A preset (`presets/*.toml`) overrides some of them, a user's TOML file overrides
more (see loading.py). Unknown keys are refused.

A renamed field still accepts its old name. It is written (dancer.json, MLflow) and hashed (fingerprint.py) under the
old name, so that stored dancers load and finished work is found.
"""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, model_validator


class RecipeSection(BaseModel):
    """Base of all sections."""

    model_config = ConfigDict(frozen=True, extra="forbid", serialize_by_alias=True)


def _renamed(default: Any, old: str, new: str, **settings: Any) -> Any:
    return Field(default, validation_alias=AliasChoices(new, old), serialization_alias=old, **settings)


class VideoRecipe(RecipeSection):
    """Limits on input videos, checked before they are decoded, and encoding of output videos."""

    max_frame_pixels: int = Field(7680 * 4320, gt=0, description="largest number of pixels per frame")
    max_frames: int = Field(1_000_000, gt=0, description="largest number of frames per video")
    max_duration_s: float = Field(6 * 3600.0, gt=0, description="longest duration of a video, in seconds")
    crf: int = Field(16, ge=0, le=51, description="H.264 constant rate factor; lower is better quality")
    x264_preset: str = _renamed("medium", "speed", "x264_preset", description="x264 preset, ultrafast to placebo")


class PoseRecipe(RecipeSection):
    """Pose extraction: detection, tracking and smoothing."""

    topology: Literal["halpe26", "coco17", "wholebody133"] = "halpe26"
    detector: str = Field("person-detector", description="person detector: a name of weights, or an ONNX file")
    model: str = Field("pose-halpe26", description="pose network: a name of weights, or an ONNX file")
    backend: Literal["auto", "openvino", "onnxruntime"] = "auto"
    precision: Literal["f32", "bf16"] = "f32"
    threads: int = Field(0, ge=0, description="threads of one network; 0: one per core")
    segment_frames: int = Field(256, gt=0, description="detector and tracker restart after this number of frames")
    detect_every_frames: int = Field(10, gt=0, description="in other frames boxes come from the last pose")
    max_people: int = Field(5, gt=0, description="most people that are tracked at a time")
    min_person_score: float = Field(0.35, ge=0, le=1, description="boxes with a lower mean keypoint score are dropped")
    min_keypoint_score: float = Field(0.3, ge=0, le=1, description="keypoints with a lower score count as missing")
    smoothing: Literal["median", "one_euro", "none"] = "median"
    smoothing_frames: int = Field(7, gt=0, description="length of the median filter in frames; odd")


class ExtractionRecipe(RecipeSection):
    """Pose extraction on a cluster; these settings do not change the poses."""

    workers: int = Field(0, ge=0, description="worker processes; 0: as many as the cluster has room for")
    worker_cpus: float = Field(1.0, gt=0, description="cores per worker; a tenth of them is for reading and joining")
    worker_gpus: float = Field(0.0, ge=0, description="GPUs per worker, may be a fraction; 0: workers compute on CPUs")
    worker_threads: int = Field(1, gt=0, description="threads of a worker's networks; more workers are faster")
    attempts: int = Field(3, gt=0, description="a segment that crashes its worker this often is given up")
    segment_timeout_s: float = Field(1800.0, gt=0, description="a worker that does not respond for longer is replaced")
    cache_gb: float = Field(50.0, gt=0, description="disk space per node for videos from S3, in GB")


class DistributedRecipe(RecipeSection):
    """A training on several workers; apart from rounding, the result does not depend on these settings."""

    zero_stage: int = Field(
        1, ge=0, le=3, description="ZeRO: 1 shards optimiser state, 2 also gradients, 3 also weights"
    )
    elastic: bool = Field(False, description="continue with fewer workers when some are lost; needs zero_stage 0")

    @model_validator(mode="after")
    def _elastic_needs_whole_checkpoints(self) -> Self:
        if self.elastic and self.zero_stage:
            raise ValueError("elastic needs zero_stage 0: ZeRO checkpoints need the same number of workers")
        return self


class RetargetRecipe(RecipeSection):
    """Retargeting: the ICCV paper's global pose normalization (eqs. 7-9)."""

    alpha: float = Field(0.7, gt=0, description="limit of the far position, relative to the near one")
    height_band: float = Field(0.05, gt=0, description="heights are measured within this part of the depth range")
    align_x: bool = Field(True, description="align the medians of x; not in the paper")


class FigureRecipe(RecipeSection):
    """Drawing of skeletons."""

    min_score: float = Field(0.3, ge=0, le=1, description="keypoints with a lower score are not drawn")
    limb_width: float = Field(0.016, gt=0, description="width of a limb, relative to the picture's longer side")


class DataRecipe(RecipeSection):
    """Training data: contiguous blocks of time for training, validation and test, and the frame cache."""

    validation_fraction: float = Field(0.05, gt=0, lt=0.4, description="part of the frames")
    test_fraction: float = Field(0.12, gt=0, lt=0.4, description="part of the frames")
    gap_s: float = Field(1.0, ge=0, description="gap between the blocks, in seconds")
    min_train_frames: int = Field(48, gt=1, description="videos with fewer usable frames are refused")
    min_present_fraction: float = Field(0.5, ge=0, le=1, description="least part of the frames with a dancer")
    cache_gb: float = Field(200.0, gt=0, description="disk space per node for one target's frames, in GB")


class GeneratorRecipe(RecipeSection):
    """pix2pixHD's global generator."""

    pixels: int = Field(512 * 256, gt=0, description="area of its input in px; the target's aspect ratio is kept")
    filters: int = Field(64, gt=0)
    downsamplings: int = Field(4, gt=0)
    blocks: int = Field(9, gt=0)
    patch: int = Field(1, gt=0, description="side of the patches that the network works on, in px; 1 as in the paper")
    background: bool = _renamed(
        False, "backdrop", "background", description="draw the dancer over a fixed background; not in the paper"
    )
    window: bool = Field(False, description="input is a window around the dancer; needs `background`; not in the paper")


class LocalRecipe(RecipeSection):
    """pix2pixHD's local enhancer, at twice the global generator's size, and what differs while both are trained."""

    blocks: int = Field(3, gt=0)
    scales: int = Field(3, gt=0, description="scales of the discriminator")
    perceptual: float = Field(10.0, ge=0, description="weight of the perceptual loss, per frame")
    epochs: float = Field(30.0, gt=0)
    max_steps: int | None = Field(None, gt=0)


class FaceRecipe(RecipeSection):
    """The Face GAN: a residual on the face of the finished generator, whose weights are fixed."""

    pixels: int = Field(
        128, gt=0, multiple_of=2, description="side in px of the face crop, whatever the size of the face"
    )
    filters: int = Field(64, gt=0)
    downsamplings: int = Field(3, gt=0)
    blocks: int = Field(5, gt=0)
    predicts_mask: bool = _renamed(
        False, "paints_over", "predicts_mask", description="blend a face over the generator's; not in the paper"
    )
    discriminator_filters: int = Field(64, gt=0)
    perceptual: float = Field(5.0, ge=0, description="weight of the perceptual loss")
    l1: float = Field(0.0, ge=0, description="weight of the L1 loss; not in the paper")
    epochs: float = Field(5.0, gt=0)
    max_steps: int | None = Field(None, gt=0)


class DiscriminatorRecipe(RecipeSection):
    """Multi-scale 70x70 PatchGAN discriminator."""

    filters: int = Field(64, gt=0)
    layers: int = Field(3, gt=0)
    scales: int = Field(2, gt=0)


class LossRecipe(RecipeSection):
    """Weights of the generator's losses, relative to the adversarial loss."""

    feature_matching: float = Field(10.0, ge=0)
    perceptual: float = Field(5.0, ge=0, description="perceptual loss, per frame")
    perceptual_backbone: Literal["vgg19", "vgg16", "none"] = "vgg19"
    perceptual_stages: int = Field(5, gt=0, le=5, description="number of the backbone's stages that are compared")
    perceptual_crop_px: int = Field(
        0, ge=0, description="side in px of crops on head and another part; 0: whole picture"
    )
    l1: float = Field(0.0, ge=0, description="L1 loss; not in the paper; short trainings need it")
    motion: float = Field(0.0, ge=0, description="L1 loss of the change between frames, if temporal; not in the paper")


class TrainingRecipe(RecipeSection):
    """Optimiser, length, log and checkpoints of a training."""

    epochs: float = Field(5.0, gt=0)
    max_steps: int | None = Field(None, gt=0, description="upper limit of the steps, whatever `epochs` says")
    batch_pairs: int = Field(1, gt=0, description="pairs of frames per step, on all workers together")
    learning_rate: float = Field(2e-4, gt=0)
    betas: tuple[float, float] = (0.5, 0.999)
    accumulate: int = Field(1, gt=0, description="micro-batches per step; more need less memory")
    save_memory: bool = Field(False, description="activation checkpointing: less memory, but slower")
    clip_norm: float = Field(0.0, ge=0, description="clip longer gradients; 0: never; not in the paper")
    decay_from: float = Field(1.0, ge=0, le=1, description="part of the training after which the learning rate falls")
    rotation_degrees: float = _renamed(
        0.0, "turn_degrees", "rotation_degrees", ge=0, le=90, description="half of the pairs are rotated by up to this"
    )
    temporal: bool = Field(True, description="the paper's temporal smoothing; false: frame by frame")
    precision: Literal["auto", "fp32", "bf16"] = Field("auto", description="auto: bf16 if the GPU or CPU supports it")
    channels_last: bool = Field(False, description="channels-last layout, on a CPU for the VGG only; faster in bf16")
    compiled: bool = Field(False, description="compile the networks, on a GPU only; takes a minute at the start")
    augment: bool = Field(False, description="DiffAugment: random colours and shifts of the discriminator's input")
    ema_decay: float = Field(0.999, ge=0, lt=1, description="decay of the average of the generator's weights")
    seed: int = 0
    checkpoint_every_steps: int = Field(500, gt=0)
    sample_every_steps: int = Field(500, gt=0)
    log_every_steps: int = Field(10, gt=0)


class RenderRecipe(RecipeSection):
    """Rendering; these settings do not change the training."""

    precision: Literal["fp32", "bf16"] = Field("fp32", description="bf16: 3 times as fast; fp32 if the CPU has no bf16")


# Stages of a training, in order.
Stage = Literal["global", "local", "face"]
STAGES: tuple[Stage, ...] = ("global", "local", "face")


class Recipe(RecipeSection):
    """All settings of dancedist, by section."""

    stages: tuple[Stage, ...] = Field(STAGES, description="stages of the training, global first")
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
        """Both sides of the generator's input must be divisible by this, in px."""
        side = self.generator.patch * 2**self.generator.downsamplings
        return int(side * (2 if "local" in self.stages else 1))

    @property
    def pixels(self) -> int:
        """Area of the generator's input in px; with a local enhancer four times that of the global generator."""
        return self.generator.pixels * (4 if "local" in self.stages else 1)

    def at_stage(self, stage: Stage) -> Recipe:
        """The recipe as it applies to a stage: without later stages, and with the stage's own settings."""
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
    def _check_stages(self) -> Self:
        if self.stages[:1] != ("global",) or list(self.stages) != [s for s in STAGES if s in self.stages]:
            raise ValueError(f"stages must begin with global, followed by others of {', '.join(STAGES)} in this order")
        if "local" in self.stages and self.generator.filters % 2:
            raise ValueError("generator.filters must be even, because the local enhancer has half as many")
        if "face" in self.stages and self.face.pixels % 2**self.face.downsamplings:
            raise ValueError("face.pixels must be divisible by 2 to the power of face.downsamplings")
        if self.training.batch_pairs % self.training.accumulate:
            raise ValueError("training.batch_pairs must be divisible by training.accumulate")
        return self

    @model_validator(mode="after")
    def _check_window(self) -> Self:
        if self.generator.window and not self.generator.background:
            raise ValueError("generator.window needs generator.background, which is shown around the window")
        if self.training.rotation_degrees and not self.generator.window:
            raise ValueError(
                "training.rotation_degrees needs generator.window, which hides the corners of a rotated picture"
            )
        if self.generator.window and self.figure.min_score > self.pose.min_keypoint_score:
            raise ValueError("figure.min_score must not exceed pose.min_keypoint_score: empty figures have no window")
        return self
