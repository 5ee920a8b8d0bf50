"""Write a scene as a film with its soundtrack."""

from __future__ import annotations

import multiprocessing
import os
import wave
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from dancedist.files import atomic_write
from dancedist.pose.sequence import PoseSequence
from dancedist.progress import Advance, progress, silent
from dancedist.recipe.fingerprint import fingerprint
from dancedist.recipe.schema import VideoRecipe
from dancedist.synthetic.scenes import Scene, film, soundtrack
from dancedist.video.encode import write_film

DRAWING_VERSION = 2
RATE_HZ = 44100
BLOCK_FRAMES = 25


def write_scene(scene: Scene, path: Path, encoding: VideoRecipe) -> None:
    """Write a scene to an MP4 file; does nothing if `path` already contains this scene."""
    marker, key = path.with_suffix(".scene"), fingerprint(repr(scene), encoding, DRAWING_VERSION)
    if path.exists() and marker.exists() and marker.read_text() == key:
        return
    marker.unlink(missing_ok=True)
    poses = scene.poses()
    sound = path.with_suffix(".wav")
    write_sound(scene, sound)
    with progress(f"drawing {path.name}", len(poses)) as advance:
        frames = draw_frames(scene, poses, advance)
        write_film(path, frames, scene.fps, crf=encoding.crf, x264_preset=encoding.x264_preset, audio_from=sound)
    sound.unlink()
    with atomic_write(marker) as partial:
        partial.write_text(key)


def draw_frames(scene: Scene, poses: PoseSequence, advance: Advance = silent) -> Iterator[NDArray[np.uint8]]:
    """Frames in order, uint8 RGB (H, W, 3), drawn by one process per core."""
    workers = len(os.sched_getaffinity(0))
    starts = iter(range(0, len(poses), BLOCK_FRAMES))
    # Spawned, as a fork of a process with torch's threads may hang.
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")) as pool:
        # Bounded, as finished blocks wait in memory until they are written.
        pending = deque(pool.submit(_draw_block, scene, poses, start) for start in islice(starts, 2 * workers))
        while pending:
            frames = pending.popleft().result()
            for start in islice(starts, 1):
                pending.append(pool.submit(_draw_block, scene, poses, start))
            for frame in frames:
                advance(1)
                yield frame


def _draw_block(scene: Scene, poses: PoseSequence, start: int) -> NDArray[np.uint8]:
    cv2.setNumThreads(1)
    return np.stack(list(film(scene.performer, scene.backdrop, poses.slice(start, start + BLOCK_FRAMES))))


def write_sound(scene: Scene, path: Path) -> None:
    """Write the scene's soundtrack as a 16-bit WAV file."""
    samples = soundtrack(scene.duration_s, scene.bpm, RATE_HZ)
    with atomic_write(path) as partial, wave.open(str(partial), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE_HZ)
        file.writeframes((samples * 32767).astype("<i2").tobytes())
