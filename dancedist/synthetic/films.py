"""A scene as a film on disk, with its soundtrack."""

from __future__ import annotations

import wave
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dancedist.files import published
from dancedist.progress import progress
from dancedist.recipe import VideoRecipe, fingerprint
from dancedist.synthetic.scenes import Scene, soundtrack
from dancedist.video.encode import write_film

CODE_VERSION = 1
RATE_HZ = 44100


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

        def filmed() -> Iterator[NDArray[np.uint8]]:
            for frame in scene.frames():
                advance(1)
                yield frame

        write_film(path, filmed(), scene.fps, crf=encoding.crf, speed=encoding.speed, audio_from=sound)
    sound.unlink()
    with published(mark) as partial:
        partial.write_text(key)


def write_sound(scene: Scene, path: Path) -> None:
    """The scene's beat as a 16-bit WAV file."""
    samples = soundtrack(scene.duration_s, scene.bpm, RATE_HZ)
    with published(path) as partial, wave.open(str(partial), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE_HZ)
        file.writeframes((samples * 32767).astype("<i2").tobytes())
