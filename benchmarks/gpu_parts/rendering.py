"""Recursive rendering on a GPU: one film against the 2019 test loop, and many films as one batch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from copy import deepcopy
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor

from benchmarks.gpu_parts.dancer import as_bytes, as_floats, dancer, moving_figures
from benchmarks.gpu_parts.networks import FAST_256, FAST_512, generator_of
from benchmarks.gpu_parts.result import Conditions, Row
from benchmarks.gpu_parts.timing import Work, flop, kernels_by_trial, quotients, rounded, synchronize, take_turns
from benchmarks.tools.recipe_2019 import render_2019, write_png
from dancedist.models.generator import Generator

FRAMES, BAR_DB = 64, 40.0
BATCH_FRAMES, CEILING_FPS = 8, 3590.0
# Precision, torch.compile's mode ("": not compiled), and whether a CUDA graph is recorded here.
VARIANTS = {
    "bf16, compiled, one graph": (torch.bfloat16, "default", True),
    "bf16, one graph": (torch.bfloat16, "", True),
    "fp16, compiled, one graph": (torch.float16, "default", True),
    "bf16, torch.compile's own graphs": (torch.bfloat16, "reduce-overhead", False),
}
COMPILED, PLAIN = list(VARIANTS)[:2]
# Films at once and variant; first one without compilation.
BATCHES = ((32, PLAIN), (32, COMPILED), (64, COMPILED), (16, COMPILED), (8, COMPILED))


class BatchRenderer:
    """Render films as one batch: figures from pinned memory, one launch for a frame of each film, bytes back."""

    def __init__(self, generator: Generator, figures_TBHW3: Tensor, variant: str, conditions: Conditions) -> None:
        self.dtype, mode, recorded = VARIANTS[variant]
        self.generator = deepcopy(generator).to(conditions.device, self.dtype, memory_format=torch.channels_last)
        self.device, cuda = conditions.device, conditions.device.type == "cuda"
        self.figures = figures_TBHW3.pin_memory() if cuda else figures_TBHW3
        self.frames = torch.empty(figures_TBHW3.shape, dtype=torch.uint8, pin_memory=cuda)
        self.figure, self.picture = (torch.zeros_like(figures_TBHW3[0], device=conditions.device) for _ in range(2))
        self.last = self.figure.permute(0, 3, 1, 2).float()
        torch._dynamo.reset()
        self.paint = (
            torch.compile(self._paint, dynamic=False, mode=mode) if mode and not conditions.tiny else self._paint
        )
        # A recorded graph keeps the kernels that were chosen.
        with kernels_by_trial():
            self.render_frame = captured(self._render_frame) if cuda and recorded else self._render_frame
            self.film()

    def film(self) -> Tensor:
        """Render all frames, uint8 RGB (T, B, H, W, 3)."""
        self.last.zero_()
        for figure, frame in zip(self.figures, self.frames, strict=True):
            self.figure.copy_(figure, non_blocking=True)
            self.render_frame()
            frame.copy_(self.picture, non_blocking=True)
        synchronize(self.device)
        return self.frames

    @torch.no_grad()
    def _render_frame(self) -> None:
        last, picture = self.paint(self.figure, self.last)
        self.last.copy_(last)
        self.picture.copy_(picture)

    def _paint(self, figure_BHW3: Tensor, last_B3HW: Tensor) -> tuple[Tensor, Tensor]:
        last = self.generator(as_floats(figure_BHW3).to(self.dtype), last_B3HW.to(self.dtype))
        return last, as_bytes(last)


def captured(work: Callable[[], None]) -> Callable[[], None]:
    """Record the work as one CUDA graph."""
    side_stream = torch.cuda.Stream()
    side_stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side_stream):
        for _ in range(3):
            work()
    torch.cuda.current_stream().wait_stream(side_stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        work()
    return graph.replay


def stream(conditions: Conditions) -> Iterator[Row]:
    """Frames per second of one film at 256x256; variants not within 40 dB of fp32 in every frame count as 0."""
    shape = conditions.shape(FAST_256)
    generator, figures = dancer(shape, conditions), moving_figures(FRAMES, 1, shape)
    truth = in_fp32(generator, figures, conditions.device)
    with TemporaryDirectory(prefix="dancedist-") as scratch:
        reference = loop_2019(generator, figures, Path(scratch), conditions.device)
        for variant in VARIANTS:
            try:
                renderer = BatchRenderer(generator, figures, variant, conditions)
            except RuntimeError as error:
                print(f"{variant}: {error}", flush=True)
                continue
            quality = decibels(renderer.film(), truth)
            rates = take_turns({"the 2019 loop": reference, "ours": renderer.film}, conditions)
            ratios = quotients(rates["ours"], rates["the 2019 loop"])
            if quality["lowest_frame_db"] < BAR_DB:
                ratios = [0.0] * len(ratios)
            weights = conditions.weights.name if conditions.weights else "trained for this"
            measured = {"means": variant, "weights": weights, **quality}
            measured["frames_per_s"] = {side: rounded(rate, FRAMES) for side, rate in rates.items()}
            yield Row.of("gpu_render_stream", 5.0, ratios, measured)


def batch(conditions: Conditions) -> Iterator[Row]:
    """Frames per second of many films at 512x256 at once, as a share of the ceiling."""
    shape = conditions.shape(FAST_512)
    generator = generator_of(shape, conditions.device).eval()
    gflop = flop(partial(in_fp32, generator, moving_figures(1, 1, shape), conditions.device)) / 1e9
    for films, variant in ((2, PLAIN),) if conditions.tiny else BATCHES:
        renderer = BatchRenderer(generator, moving_figures(BATCH_FRAMES, films, shape), variant, conditions)
        rates = take_turns({"ours": renderer.film}, conditions)["ours"]
        frames_per_s = rounded(rates, films * BATCH_FRAMES)
        measured = {
            "means": f"{films} films, {variant}",
            "frames_per_s": frames_per_s,
            "gflop_per_frame": round(gflop, 1),
        }
        yield Row.of("gpu_render_lockstep", 0.4, [f / CEILING_FPS for f in frames_per_s], measured)


def loop_2019(generator: Generator, figures_T1HW3: Tensor, folder: Path, device: torch.device) -> Work:
    """The 2019 test loop: one film from PNG files to PNG files."""
    paths = [folder / f"{t:04d}.png" for t in range(len(figures_T1HW3))]
    for path, figure in zip(paths, figures_T1HW3, strict=True):
        write_png(path, as_floats(figure))
    (out := folder / "out").mkdir()
    return partial(render_2019, generator, paths, out, str(device))


@torch.no_grad()
def in_fp32(generator: Generator, figures_T1HW3: Tensor, device: torch.device) -> Tensor:
    """The film rendered in fp32, without TF32, uint8 RGB (T, 1, H, W, 3)."""
    before, torch.backends.cudnn.allow_tf32 = torch.backends.cudnn.allow_tf32, False
    last, frames = torch.zeros_like(as_floats(figures_T1HW3[0]), device=device), []
    for figure in figures_T1HW3:
        last = generator(as_floats(figure.to(device)), last)
        frames.append(as_bytes(last).cpu())
    torch.backends.cudnn.allow_tf32 = before
    return torch.stack(frames)


def decibels(film_TBHW3: Tensor, truth_TBHW3: Tensor) -> dict[str, float]:
    """Lowest PSNR of a frame, and PSNR over the film, dB."""
    errors = (film_TBHW3.float() - truth_TBHW3.float()).square().flatten(1).mean(1).clamp(min=1e-5)
    lowest, film = (10 * torch.log10(255**2 / e) for e in (errors.max(), errors.mean()))
    return {"lowest_frame_db": round(float(lowest), 2), "film_db": round(float(film), 2), "bar_db": BAR_DB}
