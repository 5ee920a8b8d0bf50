"""One dancer's poses over one video, and the Parquet file that stores them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from dancedist.errors import FileInvalid, Notice
from dancedist.files import atomic_write
from dancedist.pose.topology import TOPOLOGIES, Topology
from dancedist.recipe.fingerprint import fingerprint

SCHEMA_VERSION = 1
# A keypoint with a lower score counts as absent.
MIN_SCORE = 0.3
# Row groups bound the memory of writing an hour of poses, as does writing without a dictionary.
ROW_GROUP_ROWS = 4096


@dataclass(frozen=True, eq=False)
class PoseSequence:
    """Poses of one dancer: `xy` float32 (T, K, 2) px of the upright frame, `score` float32 (T, K) in [0, 1].

    Where the dancer is absent, score is 0 and xy NaN. `size` is (width, height) of the frames in px, `fps` their
    rate. `fingerprint` identifies the input and the method; `model` names the pose network.
    """

    xy: NDArray[np.float32]
    score: NDArray[np.float32]
    topology: Topology
    fps: Fraction
    size: tuple[int, int]
    notices: tuple[Notice, ...] = ()
    fingerprint: str = ""
    model: str = field(default="")

    def __post_init__(self) -> None:
        k = len(self.topology)
        assert self.xy.ndim == 3 and self.xy.shape[1:] == (k, 2), self.xy.shape
        assert self.score.shape == self.xy.shape[:2], (self.score.shape, self.xy.shape)

    def __len__(self) -> int:
        return len(self.xy)

    @property
    def present(self) -> NDArray[np.bool_]:
        """bool (T,): whether the dancer is present."""
        return np.asarray((self.score > 0).any(axis=1), np.bool_)

    def slice(self, start_frame: int, stop_frame: int) -> PoseSequence:
        """Frames [start, stop) as a new sequence."""
        return replace(self, xy=self.xy[start_frame:stop_frame], score=self.score[start_frame:stop_frame])

    def points(self, *names: str) -> NDArray[np.float32]:
        """The named keypoints, float32 (T, N, 2) px."""
        return self.xy[:, [self.topology.index[n] for n in names]]


def concat_poses(parts: Sequence[PoseSequence], names: Sequence[str]) -> PoseSequence:
    """Concatenate sequences of one dancer in frames of one size; each part's name precedes its notices."""
    first = parts[0]
    if len(parts) == 1:
        return first
    assert all((p.topology, p.size) == (first.topology, first.size) for p in parts)
    starts = accumulate((len(p) for p in parts), initial=0)
    notices = [n.of_part(name, start) for p, name, start in zip(parts, names, starts, strict=False) for n in p.notices]
    return replace(
        first,
        xy=np.concatenate([p.xy for p in parts]),
        score=np.concatenate([p.score for p in parts]),
        notices=tuple(notices),
        fingerprint=fingerprint(*(p.fingerprint for p in parts)),
    )


def torso_lengths(poses: PoseSequence) -> NDArray[np.float32]:
    """float32 (T,) px from the middle of the shoulders to the middle of the hips; NaN where absent."""
    p = poses.points("left_shoulder", "right_shoulder", "left_hip", "right_hip")
    return np.asarray(np.linalg.norm(p[:, :2].mean(axis=1) - p[:, 2:].mean(axis=1), axis=1), np.float32)


def torso_px(poses: PoseSequence) -> float:
    """Median torso length, px: the unit of joint errors."""
    return float(np.nanmedian(torso_lengths(poses)))


def write_poses(poses: PoseSequence, path: Path) -> None:
    """Write one row per frame; the file is written atomically."""
    meta = {
        "version": SCHEMA_VERSION,
        "topology": poses.topology.name,
        "fps": str(poses.fps),
        "size": list(poses.size),
        "fingerprint": poses.fingerprint,
        "model": poses.model,
        "notices": [[n.slug, n.message, n.frame] for n in poses.notices],
    }
    k = len(poses.topology)
    table = pa.table(
        {
            "frame": pa.array(np.arange(len(poses), dtype=np.int32)),
            "present": pa.array(poses.present),
            "xy": pa.FixedSizeListArray.from_arrays(pa.array(poses.xy.reshape(-1)), 2 * k),
            "score": pa.FixedSizeListArray.from_arrays(pa.array(poses.score.reshape(-1)), k),
        }
    ).replace_schema_metadata({"dancedist": json.dumps(meta)})
    with atomic_write(path) as partial:
        pq.write_table(table, partial, compression="zstd", use_dictionary=False, row_group_size=ROW_GROUP_ROWS)


def read_poses(path: Path) -> PoseSequence:
    """Read a file that `write_poses` wrote. Raises FileInvalid for any other file."""
    try:
        table = pq.read_table(path)
    except (OSError, pa.ArrowException) as error:
        got = str(error).splitlines()[0]
        raise FileInvalid("is not a poses file", file=path, expected="Parquet", got=got) from error
    raw = (table.schema.metadata or {}).get(b"dancedist")
    meta = json.loads(raw) if raw else {}
    if meta.get("version") != SCHEMA_VERSION:
        got = f"version {meta['version']}" if meta else "Parquet without poses"
        raise FileInvalid("is not a poses file", file=path, expected=f"poses version {SCHEMA_VERSION}", got=got)
    try:
        return _sequence(table, meta)
    except (KeyError, ValueError) as error:
        raise FileInvalid("is not a poses file", file=path, expected="complete columns", got=str(error)) from error


def _sequence(table: pa.Table, meta: dict[str, Any]) -> PoseSequence:
    topology = TOPOLOGIES[meta["topology"]]
    t, k = table.num_rows, len(topology)
    return PoseSequence(
        xy=_column(table, "xy").reshape(t, k, 2),
        score=_column(table, "score").reshape(t, k),
        topology=topology,
        fps=Fraction(meta["fps"]),
        size=(meta["size"][0], meta["size"][1]),
        notices=tuple(Notice(*n) for n in meta["notices"]),
        fingerprint=meta["fingerprint"],
        model=meta["model"],
    )


def _column(table: pa.Table, name: str) -> NDArray[np.float32]:
    values = table[name].combine_chunks().flatten()
    return np.array(values.to_numpy(zero_copy_only=False), dtype=np.float32)
