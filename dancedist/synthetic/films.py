"""A scene as a film on disk, with its soundtrack."""

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

from dancedist.files import published
from dancedist.pose.sequence import PoseSequence
from dancedist.progress import Advance, progress, silent
from dancedist.recipe import VideoRecipe, fingerprint
from dancedist.synthetic.scenes import Scene, film, soundtrack
from dancedist.video.encode import write_film

CODE_VERSION = 2
RATE_HZ = 44100
BLOCK_FRAMES = 25


def write_scene(scene: Scene, path: Path, encoding: VideoRecipe) -> None:
    """Film a scene to MP4; nothing is done where `path` holds this very scene."""
    mark, key = path.with_suffix(".scene"), fingerprint(repr(scene), encoding, CODE_VERSION)
    if path.exists() and mark.exists() and mark.read_text() == key:
        return
    mark.unlink(missing_ok=True)
    poses = scene.poses()
    sound = path.with_suffix(".wav")
    write_sound(scene, sound)
    with progress(f"filming {path.name}", len(poses)) as advance:
        frames = drawn(scene, poses, advance)
        write_film(path, frames, scene.fps, crf=encoding.crf, speed=encoding.speed, audio_from=sound)
    sound.unlink()
    with published(mark) as partial:
        partial.write_text(key)


def drawn(scene: Scene, poses: PoseSequence, advance: Advance = silent) -> Iterator[NDArray[np.uint8]]:
    """Frames in order, uint8 RGB (H, W, 3), drawn by as many processes as there are cores."""
    workers = len(os.sched_getaffinity(0))
    starts = iter(range(0, len(poses), BLOCK_FRAMES))
    # Spawned: a fork of a process that has torch's threads may hang.
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")) as pool:
        # A bounded window: blocks that wait to be written are held in memory.
        pending = deque(pool.submit(_block, scene, poses, start) for start in islice(starts, 2 * workers))
        while pending:
            frames = pending.popleft().result()
            for start in islice(starts, 1):
                pending.append(pool.submit(_block, scene, poses, start))
            for frame in frames:
                advance(1)
                yield frame


def _block(scene: Scene, poses: PoseSequence, start: int) -> NDArray[np.uint8]:
    cv2.setNumThreads(1)
    return np.stack(list(film(scene.performer, scene.backdrop, poses.slice(start, start + BLOCK_FRAMES))))


def write_sound(scene: Scene, path: Path) -> None:
    """The scene's beat as a 16-bit WAV file."""
    samples = soundtrack(scene.duration_s, scene.bpm, RATE_HZ)
    with published(path) as partial, wave.open(str(partial), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE_HZ)
        file.writeframes((samples * 32767).astype("<i2").tobytes())
