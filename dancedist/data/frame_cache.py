"""A target's frames on disk, decoded once a node: pictures at the network's size, and faces."""

from __future__ import annotations

import errno
import json
import mmap
import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from math import prod
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dancedist.errors import DiskFull
from dancedist.files import published_folder, remove_leftovers
from dancedist.pose.sequence import PoseSequence
from dancedist.progress import Advance, silent
from dancedist.skeleton.crop import cut
from dancedist.skeleton.face import face_boxes
from dancedist.video.concat import Footage
from dancedist.video.decode import read_frame_at, read_frames
from dancedist.video.letterbox import Fit
from dancedist.video.prefetch import ReadAhead

CACHE_VERSION = 2
# Where fewer frames than this part are kept, the decoder seeks: each seek opens the file and fills its threads anew.
_SEEK_UNDER = 0.1

Rgb = NDArray[np.uint8]


class MappedRows:
    """uint8 array on disk, (N, ...): a row is mapped into memory for as long as somebody looks at it.

    All processes of a machine share its pages. Were the whole of it mapped, all that was ever looked at would count as
    each one's memory.
    """

    def __init__(self, path: Path) -> None:
        self._path, whole = path, np.load(path, mmap_mode="r")
        assert whole.dtype == np.uint8, whole.dtype
        self.shape: tuple[int, ...] = whole.shape
        self._bytes, self._offset = prod(self.shape[1:]), int(whole.offset)
        # Held open: it may be looked at after another cache has taken the folder's place.
        self._file = path.open("rb")

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, row: int) -> Rgb:
        assert 0 <= row < len(self), (row, len(self))
        start = self._offset + row * self._bytes
        page = start - start % mmap.ALLOCATIONGRANULARITY
        length = start - page + self._bytes
        with_head = mmap.mmap(self._file.fileno(), length, access=mmap.ACCESS_READ, offset=page)
        return np.frombuffer(with_head, np.uint8, offset=start - page).reshape(self.shape[1:])

    def __reduce__(self) -> tuple[type[MappedRows], tuple[Path]]:
        return MappedRows, (self._path,)


@dataclass(frozen=True, eq=False)
class FrameCache:
    """`frames` int64 (N,), ascending, and of each: `pictures` uint8 (N, h, w, 3), `decoded` (N,) whether it did.

    `faces` uint8 (N, S, S, 3) and the `face_boxes` float32 (T, 4) that they were cut from, px of the film's frames, NaN
    where no face is seen; None where no faces were asked for.
    """

    frames: NDArray[np.int64]
    pictures: MappedRows
    decoded: NDArray[np.bool_]
    faces: MappedRows | None = None
    face_boxes: NDArray[np.float32] | None = None


def frame_bytes(fit: Fit, face_px: int) -> int:
    """What one frame takes of the disk."""
    width, height = fit.picture_size
    return 3 * (width * height + face_px**2)


def open_cache(folder: Path, key: str) -> FrameCache | None:
    """What `fill_cache` left there under this key."""
    try:
        if json.loads((folder / "cache.json").read_text())["key"] != key:
            return None
    except (FileNotFoundError, KeyError):
        return None
    frames, decoded = (np.load(folder / f"{name}.npy") for name in ("frames", "decoded"))
    pictures = MappedRows(folder / "pictures.npy")
    if not (folder / "faces.npy").exists():
        return FrameCache(frames, pictures, decoded)
    faces, boxes = MappedRows(folder / "faces.npy"), np.load(folder / "face_boxes.npy")
    return FrameCache(frames, pictures, decoded, faces, boxes)


def fill_cache(
    folder: Path,
    key: str,
    video: Footage,
    frames: NDArray[np.int64],
    poses: PoseSequence,
    fit: Fit,
    face_px: int = 0,
    advance: Advance = silent,
) -> None:
    """Decode `frames` of the video into `folder`, made whole or not at all; `poses` in px of the video's frames.

    Where `face_px` > 0, faces too, cut from the frames as they are filmed. Memory does not grow with the film. For one
    process at a time; what stood there goes first, so that disk is taken once. Raises DiskFull.
    """
    shutil.rmtree(folder, ignore_errors=True)
    remove_leftovers(folder)
    needed = len(frames) * frame_bytes(fit, face_px)
    try:
        with published_folder(folder) as partial:
            if (free := shutil.disk_usage(partial).free) < needed:
                raise _full(video, needed, f"{free / 1e9:.1f} GB")
            boxes = face_boxes(poses) if face_px else None
            decoded = _write(partial, video, frames, fit, boxes, face_px, advance)
            np.save(partial / "frames.npy", frames)
            np.save(partial / "decoded.npy", decoded)
            if boxes is not None:
                np.save(partial / "face_boxes.npy", boxes)
            (partial / "cache.json").write_text(json.dumps({"key": key}))
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise _full(video, needed, "less by now") from error
        raise


def _full(video: Footage, needed: int, got: str) -> DiskFull:
    expected = f"{needed / 1e9:.1f} GB free for its frames; data.cache_gb bounds them"
    return DiskFull("no room on the disk", file=video.path, expected=expected, got=got)


def _write(
    folder: Path,
    video: Footage,
    frames: NDArray[np.int64],
    fit: Fit,
    boxes: NDArray[np.float32] | None,
    face_px: int,
    advance: Advance,
) -> NDArray[np.bool_]:
    """pictures.npy and, where there are boxes, faces.npy -> (N,) which decoded; `advance` counts the film's frames."""
    decoded, last = np.zeros(len(frames), np.bool_), -1
    width, height = fit.picture_size
    with ExitStack() as files:
        pictures = files.enter_context(closing(_Rows(folder / "pictures.npy", len(frames), (height, width, 3))))
        if boxes is not None:
            faces = files.enter_context(closing(_Rows(folder / "faces.npy", len(frames), (face_px, face_px, 3))))
        for i, (t, frame) in enumerate(ReadAhead(_read(video, frames))):
            decoded[i] = frame is not None
            pictures.append(None if frame is None else fit.to_picture(frame))
            if boxes is not None:
                faces.append(None if frame is None else _face(frame, boxes[t], face_px))
            advance(t - last)
            last = t
    if last < video.frames - 1:
        advance(video.frames - 1 - last)
    return decoded


def _read(video: Footage, frames: NDArray[np.int64]) -> Iterator[tuple[int, Rgb | None]]:
    if len(frames) < _SEEK_UNDER * video.frames:
        yield from zip(frames.tolist(), read_frame_at(video, frames.tolist()), strict=True)
        return
    wanted = np.zeros(video.frames, np.bool_)
    wanted[frames] = True
    yield from ((t, frame) for t, frame in enumerate(read_frames(video)) if wanted[t])


def _face(frame: Rgb, box: NDArray[np.float32], face_px: int) -> Rgb | None:
    if not np.isfinite(box).all():
        return None
    x0, y0, x1, y1 = box.tolist()
    return cut(frame, (x0, y0, x1, y1), face_px)


class _Rows:
    """An array file that is written row by row: what is mapped into memory to be written counts as memory."""

    def __init__(self, path: Path, rows: int, row_shape: tuple[int, ...]) -> None:
        self._shape = row_shape
        self._file = path.open("wb")
        header = {"descr": "|u1", "fortran_order": False, "shape": (rows, *row_shape)}
        np.lib.format.write_array_header_1_0(self._file, header)

    def append(self, row: Rgb | None) -> None:
        """None is a row of zeros."""
        self._file.write((np.zeros(self._shape, np.uint8) if row is None else np.ascontiguousarray(row)).data)

    def close(self) -> None:
        # Once: whole pictures are there when the folder is, even where the machine stops next.
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
