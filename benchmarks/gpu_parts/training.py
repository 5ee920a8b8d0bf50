"""Training on a GPU: dancedist's step against the 2019 recipe's, in pairs per second and peak memory."""

from __future__ import annotations

import gc
import resource
from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from benchmarks.gpu_parts.networks import FAST_256, FAST_1024, Shape, build, random_pairs
from benchmarks.gpu_parts.result import Conditions, Row
from benchmarks.gpu_parts.timing import Work, quotients, rounded, synchronize, take_turns
from benchmarks.tools.recipe_2019 import ADAM, Training2019
from dancedist.models.activation_checkpointing import checkpoint_activations, generator_layers
from dancedist.models.step import adversarial_losses, discriminator_input, discriminator_losses, picture_losses, rollout

BATCH_PAIRS = 4
Losses = dict[str, Tensor]


class FastTraining:
    """The generator stage's step: bf16, one discriminator pass over fake and real, one VGG pass over all frames.

    Pairs are on the GPU; reading them is not measured.
    """

    def __init__(self, shape: Shape, device: torch.device) -> None:
        self.shape, self.device = shape, device
        self.generator, self.discriminator, self.vgg = networks = build(shape, device)
        if shape.channels_last:
            for network in networks:
                network.to(memory_format=torch.channels_last)
        self.ema = AveragedModel(self.generator, multi_avg_fn=get_ema_multi_avg_fn(0.999))
        self.optimisers = [torch.optim.Adam(n.parameters(), **ADAM) for n in networks[:2]]
        self.background = torch.zeros(1, 3, shape.height, shape.width, device=device) if shape.background else None

    def compile(self) -> None:
        """Compile both networks, from their next step on."""
        for network in (self.generator, self.discriminator):
            network.compile(dynamic=False)

    def work(self, batch: int) -> Work:
        """A step with a batch of random pairs."""
        return partial(self.step, *random_pairs(self.shape, batch, self.device))

    def step(self, figures_B23HW: Tensor, truth_B23HW: Tensor) -> None:
        """Update both networks and the averaged weights: figures and truth, float32 (B, 2, 3, H, W) in [-1, 1]."""
        with torch.autocast(self.device.type, torch.bfloat16):
            losses_of_both = self._losses(figures_B23HW, truth_B23HW)
        for optimiser, losses in zip(self.optimisers, losses_of_both, strict=True):
            torch.stack(list(losses.values())).sum().backward()
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
        self.ema.update_parameters(self.generator)

    def _losses(self, figures: Tensor, truth: Tensor) -> tuple[Losses, Losses]:
        weights = self.shape.weights
        pictures = rollout(partial(self.generator, background_B3HW=self.background), figures)
        g = picture_losses(pictures, truth, self._crops(pictures, truth), self.vgg, weights)
        fake, real = (discriminator_input(figures, y) for y in (pictures, truth))
        self.discriminator.requires_grad_(False)
        g |= adversarial_losses(self.discriminator, fake, real, weights)
        self.discriminator.requires_grad_(True)
        return g, discriminator_losses(self.discriminator, fake.detach(), real)

    def _crops(self, *pictures: Tensor) -> tuple[Tensor, Tensor]:
        """The crops that the VGG compares: whole frames, or two squares of each."""
        frames, px = [p.flatten(0, 1) for p in pictures], self.shape.perceptual_crop_px
        if px:
            frames = [torch.cat([f[..., :px, :px], f[..., -px:, -px:]]) for f in frames]
        return frames[0], frames[1]


def work_2019(shape: Shape, device: torch.device) -> Work:
    """The 2019 recipe's step with one pair. TF32 as torch's default: in convolutions, not in matrix products."""
    return partial(Training2019(*build(shape, device)).step, *random_pairs(shape, 1, device))


def training_step(conditions: Conditions) -> Iterator[Row]:
    """Pairs per second at 256x256 against the 2019 recipe."""
    shape = conditions.shape(FAST_256)
    reference, fast = work_2019(shape, conditions.device), FastTraining(shape, conditions.device)
    sides = {"the 2019 recipe": reference, "ours": fast.work(BATCH_PAIRS)}
    for variant in ("eager", "compiled")[: 1 if conditions.tiny else 2]:
        if variant == "compiled":
            fast.compile()
        rates = take_turns(sides, conditions)
        ours, reference_rates = rounded(rates["ours"], BATCH_PAIRS), rounded(rates["the 2019 recipe"])
        figures = {
            "means": variant,
            "batch_pairs": BATCH_PAIRS,
            "pairs_per_s": {"ours": ours, "the 2019 recipe": reference_rates},
        }
        yield Row.of("gpu_training_step", 4.0, quotients(ours, reference_rates), figures)


def memory(conditions: Conditions) -> Iterator[Row]:
    """Peak memory of one pair at 1024x512, with the local enhancer. It varies little, so the sides take no turns."""
    shape = conditions.shape(FAST_1024)
    reference = peaks_gib(partial(work_2019, shape, conditions.device), conditions)
    ours = peaks_gib(partial(_compiled_step, shape, conditions), conditions)
    peaks = {"ours": rounded(ours), "the 2019 recipe": rounded(reference)}
    row = partial(Row.of, "gpu_training_memory", 2.0)
    yield row(quotients(reference, ours), {"means": "compiled", "peak_gib": peaks})
    if max(ours) * 2 > min(reference):
        # training.save_memory, which no preset sets.
        recomputed = peaks_gib(partial(_compiled_step, shape, conditions, save_memory=True), conditions)
        figures = {"means": "compiled, save_memory", "peak_gib": peaks | {"ours, save_memory": rounded(recomputed)}}
        yield row(quotients(reference, recomputed), figures)


def _compiled_step(shape: Shape, conditions: Conditions, *, save_memory: bool = False) -> Work:
    training = FastTraining(shape, conditions.device)
    if save_memory:
        checkpoint_activations(
            [*generator_layers(training.generator.net), *training.discriminator.scales, *training.vgg.slices]
        )
    if not conditions.tiny:
        training.compile()
    return training.work(1)


def peaks_gib(make: Callable[[], Work], conditions: Conditions) -> list[float]:
    """Peak memory of several steps, after a first step has allocated the state; all memory is released at the end."""
    work, peaks = make(), list[float]()
    work()
    for _ in range(conditions.turns):
        if conditions.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
        work()
        synchronize(conditions.device)
        peaks.append(peak_bytes(conditions.device) / 2**30)
    del work
    torch._dynamo.reset()
    gc.collect()
    torch.cuda.empty_cache()
    return peaks


def peak_bytes(device: torch.device) -> int:
    """Peak memory of the GPU; of the process if there is none, only to check that it runs."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10
