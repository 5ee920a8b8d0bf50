"""Clips with known frames, in any codec, container, rate and shape."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

BITS = 8
CELL_PX = 12


def numbered(number: int, width: int = 128, height: int = 96) -> np.ndarray:
    """A frame with its number encoded as eight black or white cells, above a moving gradient."""
    y, x = np.mgrid[:height, :width]
    picture = np.stack([x * 255 // width, y * 255 // height, (x + y + 5 * number) % 256], axis=-1).astype(np.uint8)
    for bit in range(BITS):
        picture[:CELL_PX, bit * CELL_PX : (bit + 1) * CELL_PX] = 255 * (number >> bit & 1)
    return picture


def number_of(picture: np.ndarray) -> int:
    """Decode the number of a frame."""
    half = CELL_PX // 2
    return sum(int(picture[half, bit * CELL_PX + half].mean() > 127) << bit for bit in range(BITS))


def write_clip(
    path: Path,
    frames: Sequence[np.ndarray] | int = 60,
    *,
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    fps: Fraction = Fraction(25),
    pts: Sequence[int] | None = None,
    time_base: Fraction | None = None,
    options: dict[str, str] | None = None,
    container: dict[str, str] | None = None,
    setup: Callable[[Any], None] | None = None,
    paint: Callable[[av.VideoFrame], av.VideoFrame] | None = None,
) -> Path:
    pictures = [numbered(i) for i in range(frames)] if isinstance(frames, int) else frames
    with av.open(str(path), "w", options=container or {}) as file:
        stream = file.add_stream(codec, rate=fps, options=options or {})
        stream.height, stream.width = pictures[0].shape[:2]
        stream.pix_fmt = pix_fmt
        stream.codec_context.time_base = time_base or 1 / fps
        if setup:
            setup(stream)
        for i, picture in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame = paint(frame) if paint else frame.reformat(format=pix_fmt)
            frame.pts, frame.time_base = pts[i] if pts else i, time_base or 1 / fps
            file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    return path


@pytest.fixture(scope="session")
def clip_at() -> Callable[..., Path]:
    """`clip_at(path, frames, codec=...)` writes a clip to `path`."""
    return write_clip


@pytest.fixture
def clip(tmp_path: Path) -> Callable[..., Path]:
    """`clip("name.mp4", frames, codec=...)` writes a clip and returns its path."""
    return lambda name, *args, **kwargs: write_clip(tmp_path / name, *args, **kwargs)


@pytest.fixture
def number() -> Callable[[np.ndarray], int]:
    return number_of


@pytest.fixture
def numbered_frame() -> Callable[..., np.ndarray]:
    return numbered
