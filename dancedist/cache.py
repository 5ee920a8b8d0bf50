"""A target's frames on disk, decoded once: pictures at the network's size and faces, to be mapped into memory."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from dancedist.figure.crop import cut
from dancedist.figure.face import face_boxes
from dancedist.files import published_folder
from dancedist.pose.sequence import PoseSequence
from dancedist.progress import Advance, silent
from dancedist.video.decode import read_frames
from dancedist.video.fit import Fit
from dancedist.video.probe import Video

CACHE_VERSION = 2


@dataclass(frozen=True, eq=False)
class FrameCache:
    """`pictures` uint8 (N, h, w, 3), memory-mapped; `decoded` (N,) whether a frame did.

    `faces` uint8 (N, S, S, 3) and the `face_boxes` float32 (T, 4) that they were cut from, px of the film's frames, NaN
    where no face is seen; None where no faces were asked for.
    """

    pictures: NDArray[np.uint8]
    decoded: NDArray[np.bool_]
    faces: NDArray[np.uint8] | None = None
    face_boxes: NDArray[np.float32] | None = None


def open_cache(folder: Path, key: str) -> FrameCache | None:
    """What `fill_cache` left there under this key."""
    try:
        if json.loads((folder / "cache.json").read_text())["key"] != key:
            return None
    except (FileNotFoundError, KeyError):
        return None
    pictures, decoded = np.load(folder / "pictures.npy", mmap_mode="r"), np.load(folder / "decoded.npy")
    if not (folder / "faces.npy").exists():
        return FrameCache(pictures, decoded)
    faces, boxes = np.load(folder / "faces.npy", mmap_mode="r"), np.load(folder / "face_boxes.npy")
    return FrameCache(pictures, decoded, faces, boxes)


def fill_cache(
    folder: Path,
    key: str,
    video: Video,
    poses: PoseSequence,
    fit: Fit,
    face_px: int = 0,
    advance: Advance = silent,
) -> None:
    """Decode the video into `folder`, made whole or not at all; `poses` in px of its frames.

    Where `face_px` > 0, faces too, cut from the frames as they are filmed. Memory does not grow with the film.
    """
    boxes = face_boxes(poses) if face_px else np.empty((len(poses), 4), np.float32)
    width, height = fit.picture_size
    with published_folder(folder) as partial:
        decoded = np.zeros(video.frames, np.bool_)
        with (
            _Rows(partial / "pictures.npy", video.frames, (height, width, 3)) as pictures,
            _Rows(partial / "faces.npy", video.frames if face_px else 0, (face_px, face_px, 3)) as faces,
        ):
            for t, frame in enumerate(read_frames(video)):
                decoded[t] = frame is not None
                pictures.append(None if frame is None else fit.to_picture(frame))
                if face_px:
                    faces.append(None if frame is None else _face(frame, boxes, t, face_px))
                advance(1)
        np.save(partial / "decoded.npy", decoded)
        if face_px:
            np.save(partial / "face_boxes.npy", boxes)
        else:
            (partial / "faces.npy").unlink()
        (partial / "cache.json").write_text(json.dumps({"key": key}))


def _face(frame: NDArray[np.uint8], boxes: NDArray[np.float32], t: int, face_px: int) -> NDArray[np.uint8] | None:
    if t >= len(boxes) or not np.isfinite(boxes[t]).all():
        return None
    x0, y0, x1, y1 = boxes[t].tolist()
    return cut(frame, (x0, y0, x1, y1), face_px)


class _Rows:
    """An array file that is written row by row: what is mapped into memory to be written counts as memory."""

    def __init__(self, path: Path, rows: int, row_shape: tuple[int, ...]) -> None:
        self._left, self._shape = rows, row_shape
        self._file = path.open("wb")
        header = {"descr": "|u1", "fortran_order": False, "shape": (rows, *row_shape)}
        np.lib.format.write_array_header_1_0(self._file, header)

    def append(self, row: NDArray[np.uint8] | None) -> None:
        """None is a row of zeros."""
        self._left -= 1
        self._file.write((np.zeros(self._shape, np.uint8) if row is None else np.ascontiguousarray(row)).data)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
        assert kind is not None or self._left == 0, self._left
