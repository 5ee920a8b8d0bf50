"""Rendering on a GPU, each frame from the one before: one film against the 2019 test loop, and many in lockstep."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from copy import deepcopy
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor

from benchmarks.tools.gpu_dancer import as_bytes, as_floats, dancer, moving_figures
from benchmarks.tools.gpu_networks import FAST_256, FAST_512, generator_of
from benchmarks.tools.gpu_part import (
    Conditions,
    Row,
    Work,
    flop,
    kernels_by_trial,
    quotients,
    rounded,
    synchronize,
    take_turns,
)
from benchmarks.tools.recipe_2019 import render_2019, write_png
from dancedist.models.generator import Generator

FRAMES, BAR_DB = 64, 40.0
LOCKSTEP_FRAMES, CEILING_FPS = 8, 3590.0
# Precision, torch.compile's mode ("": none), and whether the graph is recorded here.
MEANS = {
    "bf16, compiled, one graph": (torch.bfloat16, "default", True),
    "bf16, one graph": (torch.bfloat16, "", True),
    "fp16, compiled, one graph": (torch.float16, "default", True),
    "bf16, torch.compile's own graphs": (torch.bfloat16, "reduce-overhead", False),
}
BEST, PLAIN = list(MEANS)[:2]
# Films at once, and how: first what needs no compiling.
LOCKSTEPS = ((32, PLAIN), (32, BEST), (64, BEST), (16, BEST), (8, BEST))


class Studio:
    """Films in lockstep: figures are sent from pinned memory, a frame of each is one launch, bytes come back."""

    def __init__(self, generator: Generator, figures_TBHW3: Tensor, means: str, how: Conditions) -> None:
        self.dtype, mode, recorded = MEANS[means]
        self.generator = deepcopy(generator).to(how.device, self.dtype, memory_format=torch.channels_last)
        self.device, cuda = how.device, how.device.type == "cuda"
        self.figures = figures_TBHW3.pin_memory() if cuda else figures_TBHW3
        self.frames = torch.empty(figures_TBHW3.shape, dtype=torch.uint8, pin_memory=cuda)
        self.figure, self.picture = (torch.zeros_like(figures_TBHW3[0], device=how.device) for _ in range(2))
        self.last = self.figure.permute(0, 3, 1, 2).float()
        torch._dynamo.reset()
        self.made = torch.compile(self._made, dynamic=False, mode=mode) if mode and not how.tiny else self._made
        # The choice stays in the graph.
        with kernels_by_trial():
            self.draw = captured(self._draw) if cuda and recorded else self._draw
            self.film()

    def film(self) -> Tensor:
        """All frames, uint8 (T, B, H, W, 3)."""
        self.last.zero_()
        for figure, frame in zip(self.figures, self.frames, strict=True):
            self.figure.copy_(figure, non_blocking=True)
            self.draw()
            frame.copy_(self.picture, non_blocking=True)
        synchronize(self.device)
        return self.frames

    @torch.no_grad()
    def _draw(self) -> None:
        last, picture = self.made(self.figure, self.last)
        self.last.copy_(last)
        self.picture.copy_(picture)

    def _made(self, figure_BHW3: Tensor, last_B3HW: Tensor) -> tuple[Tensor, Tensor]:
        last = self.generator(as_floats(figure_BHW3).to(self.dtype), last_B3HW.to(self.dtype))
        return last, as_bytes(last)


def captured(draw: Callable[[], None]) -> Callable[[], None]:
    """The same as one CUDA graph."""
    aside = torch.cuda.Stream()
    aside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(aside):
        for _ in range(3):
            draw()
    torch.cuda.current_stream().wait_stream(aside)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        draw()
    return graph.replay


def stream(how: Conditions) -> Iterator[Row]:
    """Frames a second of one film at 256x256; means that are not within 40 dB of fp32 in each frame count as 0."""
    shape = how.shape(FAST_256)
    generator, figures = dancer(shape, how), moving_figures(FRAMES, 1, shape)
    truth = in_fp32(generator, figures, how.device)
    with TemporaryDirectory(prefix="dancedist-") as scratch:
        theirs = loop_2019(generator, figures, Path(scratch), how.device)
        for means in MEANS:
            try:
                studio = Studio(generator, figures, means, how)
            except RuntimeError as error:
                print(f"{means}: {error}", flush=True)
                continue
            quality = decibels(studio.film(), truth)
            rates = take_turns({"the 2019 loop": theirs, "ours": studio.film}, how)
            ratios = quotients(rates["ours"], rates["the 2019 loop"])
            if quality["lowest_frame_db"] < BAR_DB:
                ratios = [0.0] * len(ratios)
            told = {"means": means, "weights": how.weights.name if how.weights else "taught for this", **quality}
            told["frames_per_s"] = {side: rounded(rate, FRAMES) for side, rate in rates.items()}
            yield Row.of("gpu_render_stream", 5.0, ratios, told)


def lockstep(how: Conditions) -> Iterator[Row]:
    """Frames a second of many films at 512x256 at once, as part of the ceiling."""
    shape = how.shape(FAST_512)
    generator = generator_of(shape, how.device).eval()
    gflop = flop(partial(in_fp32, generator, moving_figures(1, 1, shape), how.device)) / 1e9
    for films, means in ((2, PLAIN),) if how.tiny else LOCKSTEPS:
        studio = Studio(generator, moving_figures(LOCKSTEP_FRAMES, films, shape), means, how)
        rates = take_turns({"ours": studio.film}, how)["ours"]
        frames_per_s = rounded(rates, films * LOCKSTEP_FRAMES)
        told = {"means": f"{films} films, {means}", "frames_per_s": frames_per_s, "gflop_per_frame": round(gflop, 1)}
        yield Row.of("gpu_render_lockstep", 0.4, [f / CEILING_FPS for f in frames_per_s], told)


def loop_2019(generator: Generator, figures_T1HW3: Tensor, folder: Path, device: torch.device) -> Work:
    """The other side: one film from PNG files to PNG files."""
    paths = [folder / f"{t:04d}.png" for t in range(len(figures_T1HW3))]
    for path, figure in zip(paths, figures_T1HW3, strict=True):
        write_png(path, as_floats(figure))
    (out := folder / "out").mkdir()
    return partial(render_2019, generator, paths, out, str(device))


@torch.no_grad()
def in_fp32(generator: Generator, figures_T1HW3: Tensor, device: torch.device) -> Tensor:
    """The film without any rounding but its last, uint8 (T, 1, H, W, 3)."""
    before, torch.backends.cudnn.allow_tf32 = torch.backends.cudnn.allow_tf32, False
    last, frames = torch.zeros_like(as_floats(figures_T1HW3[0]), device=device), []
    for figure in figures_T1HW3:
        last = generator(as_floats(figure.to(device)), last)
        frames.append(as_bytes(last).cpu())
    torch.backends.cudnn.allow_tf32 = before
    return torch.stack(frames)


def decibels(film_TBHW3: Tensor, truth_TBHW3: Tensor) -> dict[str, float]:
    """PSNR of the lowest frame, and over the film."""
    errors = (film_TBHW3.float() - truth_TBHW3.float()).square().flatten(1).mean(1).clamp(min=1e-5)
    lowest, whole = (10 * torch.log10(255**2 / e) for e in (errors.max(), errors.mean()))
    return {"lowest_frame_db": round(float(lowest), 2), "film_db": round(float(whole), 2), "bar_db": BAR_DB}
