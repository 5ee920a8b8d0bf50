"""A training step on a GPU as dancedist takes it, against the 2019 recipe's: pairs a second, and peak memory."""

from __future__ import annotations

import gc
import resource
from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from benchmarks.tools.gpu_networks import FAST_256, FAST_1024, Shape, build, random_pairs
from benchmarks.tools.gpu_part import Conditions, Row, Work, quotients, rounded, synchronize, take_turns
from benchmarks.tools.recipe_2019 import ADAM, Training2019
from dancedist.models.activation_checkpointing import pieces, recompute
from dancedist.models.step import adversarial_losses, discriminator_losses, judged_input, picture_losses, rollout

BATCH_PAIRS = 4
Losses = dict[str, Tensor]


class FastTraining:
    """The generator stage's step: bf16, one pass of D over fake and real, the VGG once over all frames.

    Pairs lie on the GPU: reading them is no part of it.
    """

    def __init__(self, shape: Shape, device: torch.device) -> None:
        self.shape, self.device = shape, device
        self.generator, self.discriminator, self.vgg = networks = build(shape, device)
        if shape.channels_last:
            for network in networks:
                network.to(memory_format=torch.channels_last)
        self.ema = AveragedModel(self.generator, multi_avg_fn=get_ema_multi_avg_fn(0.999))
        self.optimisers = [torch.optim.Adam(n.parameters(), **ADAM) for n in networks[:2]]
        self.backdrop = torch.zeros(1, 3, shape.height, shape.width, device=device) if shape.backdrop else None

    def compile(self) -> None:
        """Both networks, from their next step on."""
        for network in (self.generator, self.discriminator):
            network.compile(dynamic=False)

    def work(self, batch: int) -> Work:
        """A step of so many pairs."""
        return partial(self.step, *random_pairs(self.shape, batch, self.device))

    def step(self, figures_B23HW: Tensor, truth_B23HW: Tensor) -> None:
        """Both networks learn, the average of the weights follows."""
        with torch.autocast(self.device.type, torch.bfloat16):
            both = self._losses(figures_B23HW, truth_B23HW)
        for optimiser, losses in zip(self.optimisers, both, strict=True):
            torch.stack(list(losses.values())).sum().backward()
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
        self.ema.update_parameters(self.generator)

    def _losses(self, figures: Tensor, truth: Tensor) -> tuple[Losses, Losses]:
        weights = self.shape.weights
        pictures = rollout(partial(self.generator, backdrop_B3HW=self.backdrop), figures)
        g = picture_losses(pictures, truth, self._crops(pictures, truth), self.vgg, weights)
        fake, real = (judged_input(figures, y) for y in (pictures, truth))
        self.discriminator.requires_grad_(False)
        g |= adversarial_losses(self.discriminator, fake, real, weights)
        self.discriminator.requires_grad_(True)
        return g, discriminator_losses(self.discriminator, fake.detach(), real)

    def _crops(self, *pictures: Tensor) -> tuple[Tensor, Tensor]:
        """What the VGG compares: all, or two squares of each frame."""
        frames, px = [p.flatten(0, 1) for p in pictures], self.shape.perceptual_crop_px
        if px:
            frames = [torch.cat([f[..., :px, :px], f[..., -px:, -px:]]) for f in frames]
        return frames[0], frames[1]


def work_2019(shape: Shape, device: torch.device) -> Work:
    """The other side's step: one pair. TF32 as torch has it by default: in convolutions, not in matrix products."""
    return partial(Training2019(*build(shape, device)).step, *random_pairs(shape, 1, device))


def training_step(how: Conditions) -> Iterator[Row]:
    """Pairs a second at 256x256 against the 2019 recipe."""
    shape = how.shape(FAST_256)
    theirs, fast = work_2019(shape, how.device), FastTraining(shape, how.device)
    sides = {"the 2019 recipe": theirs, "ours": fast.work(BATCH_PAIRS)}
    for means in ("eager", "compiled")[: 1 if how.tiny else 2]:
        if means == "compiled":
            fast.compile()
        rates = take_turns(sides, how)
        ours, others = rounded(rates["ours"], BATCH_PAIRS), rounded(rates["the 2019 recipe"])
        figures = {"means": means, "batch_pairs": BATCH_PAIRS, "pairs_per_s": {"ours": ours, "the 2019 recipe": others}}
        yield Row.of("gpu_training_step", 4.0, quotients(ours, others), figures)


def memory(how: Conditions) -> Iterator[Row]:
    """Peak of one pair at 1024x512, with the local enhancer. What is allocated varies little: no turns are taken."""
    shape = how.shape(FAST_1024)
    theirs = peaks_gib(partial(work_2019, shape, how.device), how)
    ours = peaks_gib(partial(_compiled_step, shape, how), how)
    peaks = {"ours": rounded(ours), "the 2019 recipe": rounded(theirs)}
    row = partial(Row.of, "gpu_training_memory", 2.0)
    yield row(quotients(theirs, ours), {"means": "compiled", "peak_gib": peaks})
    if max(ours) * 2 > min(theirs):
        # training.save_memory, which no preset asks for.
        twice = peaks_gib(partial(_compiled_step, shape, how, save_memory=True), how)
        figures = {"means": "compiled, save_memory", "peak_gib": peaks | {"ours, save_memory": rounded(twice)}}
        yield row(quotients(theirs, twice), figures)


def _compiled_step(shape: Shape, how: Conditions, *, save_memory: bool = False) -> Work:
    training = FastTraining(shape, how.device)
    if save_memory:
        recompute([*pieces(training.generator.net), *training.discriminator.scales, *training.vgg.slices])
    if not how.tiny:
        training.compile()
    return training.work(1)


def peaks_gib(make: Callable[[], Work], how: Conditions) -> list[float]:
    """Of each of some steps, once all is there that is there between steps; everything is given back then."""
    work, peaks = make(), list[float]()
    work()
    for _ in range(how.turns):
        if how.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
        work()
        synchronize(how.device)
        peaks.append(peak_bytes(how.device) / 2**30)
    del work
    torch._dynamo.reset()
    gc.collect()
    torch.cuda.empty_cache()
    return peaks


def peak_bytes(device: torch.device) -> int:
    """Of the GPU; without one of the process, which only shows that it runs."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10
