"""Frame cache of a target on disk, decoded once per node: pictures at the network's size, and face crops."""

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

from dancedist.arrays import Rgb
from dancedist.errors import DiskFull
from dancedist.files import atomic_write_folder, remove_leftovers
from dancedist.progress import Advance, silent
from dancedist.skeleton.crop import crop_box
from dancedist.video.concat import Footage
from dancedist.video.decode import read_frame_at, read_frames
from dancedist.video.letterbox import Letterbox
from dancedist.video.prefetch import Prefetcher

CACHE_VERSION = 2
# Below this part of a video's frames the decoder seeks. Each seek opens the file and refills the decoder's threads.
_SEEK_BELOW = 0.1


class MappedRows:
    """uint8 array (N, ...) in a file; a row is mapped into memory only while it is referenced.

    Processes of a machine share its pages. If the whole array were mapped, every page ever read would count as
    memory of each process.
    """

    def __init__(self, path: Path) -> None:
        self._path, array = path, np.load(path, mmap_mode="r")
        assert array.dtype == np.uint8, array.dtype
        self.shape: tuple[int, ...] = array.shape
        self._bytes, self._offset = prod(self.shape[1:]), int(array.offset)
        # Kept open: rows stay readable after another cache has replaced the folder.
        self._file = path.open("rb")

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, row: int) -> Rgb:
        assert 0 <= row < len(self), (row, len(self))
        start = self._offset + row * self._bytes
        page = start - start % mmap.ALLOCATIONGRANULARITY
        length = start - page + self._bytes
        mapped = mmap.mmap(self._file.fileno(), length, access=mmap.ACCESS_READ, offset=page)
        return np.frombuffer(mapped, np.uint8, offset=start - page).reshape(self.shape[1:])

    def __reduce__(self) -> tuple[type[MappedRows], tuple[Path]]:
        return MappedRows, (self._path,)


@dataclass(frozen=True, eq=False)
class FrameCache:
    """Cached frames of a video.

    `frames` int64 (N,) are their indices, ascending; `pictures` uint8 RGB (N, h, w, 3) their pictures, `decoded`
    bool (N,) whether each could be decoded. `faces` uint8 RGB (N, S, S, 3) are crops at `face_boxes` float32 (T, 4),
    px of the video's frames, NaN where no face is visible; both are None in a cache without faces.
    """

    frames: NDArray[np.int64]
    pictures: MappedRows
    decoded: NDArray[np.bool_]
    faces: MappedRows | None = None
    face_boxes: NDArray[np.float32] | None = None


def frame_bytes(letterbox: Letterbox, face_px: int) -> int:
    """Size of one cached frame on disk, in bytes."""
    width, height = letterbox.picture_size
    return 3 * (width * height + face_px**2)


def open_cache(folder: Path, key: str) -> FrameCache | None:
    """Open the cache that `fill_cache` wrote under this key; None if there is none."""
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
    letterbox: Letterbox,
    face_boxes: NDArray[np.float32] | None = None,
    face_px: int = 0,
    advance: Advance = silent,
) -> None:
    """Decode `frames`, int64 (N,) indices, of the video into `folder`, which appears complete or not at all.

    With `face_boxes`, float32 (T, 4) px of the video's frames, the cache also holds face crops of `face_px` px a
    side, taken from the original frames. Memory does not grow with the video. An earlier cache is deleted first, so
    that disk is used once. Only one process may call this at a time. Raises DiskFull.
    """
    shutil.rmtree(folder, ignore_errors=True)
    remove_leftovers(folder)
    needed = len(frames) * frame_bytes(letterbox, face_px)
    try:
        with atomic_write_folder(folder) as partial:
            if (free := shutil.disk_usage(partial).free) < needed:
                raise _disk_full(video, needed, f"{free / 1e9:.1f} GB")
            decoded = _write_rows(partial, video, frames, letterbox, face_boxes, face_px, advance)
            np.save(partial / "frames.npy", frames)
            np.save(partial / "decoded.npy", decoded)
            if face_boxes is not None:
                np.save(partial / "face_boxes.npy", face_boxes)
            (partial / "cache.json").write_text(json.dumps({"key": key}))
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise _disk_full(video, needed, "less by now") from error
        raise


def _disk_full(video: Footage, needed: int, got: str) -> DiskFull:
    expected = f"{needed / 1e9:.1f} GB free for its frames; data.cache_gb limits them"
    return DiskFull("does not fit on the disk", file=video.path, expected=expected, got=got)


def _write_rows(
    folder: Path,
    video: Footage,
    frames: NDArray[np.int64],
    letterbox: Letterbox,
    boxes: NDArray[np.float32] | None,
    face_px: int,
    advance: Advance,
) -> NDArray[np.bool_]:
    """Write pictures.npy and, with `boxes`, faces.npy; returns (N,) which frames decoded.

    `advance` counts the video's frames.
    """
    decoded, last = np.zeros(len(frames), np.bool_), -1
    width, height = letterbox.picture_size
    with ExitStack() as files:
        pictures = files.enter_context(closing(_RowWriter(folder / "pictures.npy", len(frames), (height, width, 3))))
        if boxes is not None:
            faces = files.enter_context(closing(_RowWriter(folder / "faces.npy", len(frames), (face_px, face_px, 3))))
        for i, (t, frame) in enumerate(Prefetcher(_read(video, frames))):
            decoded[i] = frame is not None
            pictures.append(None if frame is None else letterbox.to_picture(frame))
            if boxes is not None:
                faces.append(None if frame is None else _crop_face(frame, boxes[t], face_px))
            advance(t - last)
            last = t
    if last < video.frames - 1:
        advance(video.frames - 1 - last)
    return decoded


def _read(video: Footage, frames: NDArray[np.int64]) -> Iterator[tuple[int, Rgb | None]]:
    if len(frames) < _SEEK_BELOW * video.frames:
        yield from zip(frames.tolist(), read_frame_at(video, frames.tolist()), strict=True)
        return
    wanted = np.zeros(video.frames, np.bool_)
    wanted[frames] = True
    yield from ((t, frame) for t, frame in enumerate(read_frames(video)) if wanted[t])


def _crop_face(frame: Rgb, box: NDArray[np.float32], face_px: int) -> Rgb | None:
    if not np.isfinite(box).all():
        return None
    x0, y0, x1, y1 = box.tolist()
    return crop_box(frame, (x0, y0, x1, y1), face_px)


class _RowWriter:
    """Writes an .npy file row by row; a memory map for writing would count as memory."""

    def __init__(self, path: Path, rows: int, row_shape: tuple[int, ...]) -> None:
        self._shape = row_shape
        self._file = path.open("wb")
        header = {"descr": "|u1", "fortran_order": False, "shape": (rows, *row_shape)}
        np.lib.format.write_array_header_1_0(self._file, header)

    def append(self, row: Rgb | None) -> None:
        """Write the next row, uint8 RGB of `row_shape`, (h, w, 3); zeros for None."""
        self._file.write((np.zeros(self._shape, np.uint8) if row is None else np.ascontiguousarray(row)).data)

    def close(self) -> None:
        # One fsync: once the folder has its final name its rows are on disk, even if the machine stops then.
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
