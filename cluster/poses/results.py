"""Output files of a job besides the poses: stats.parquet, errors.parquet and summary.json."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from cluster.core.error_records import ErrorRecord
from cluster.storage.base import Storage
from dancedist.errors import FileInvalid, NoDancer
from dancedist.recipe.schema import RetargetRecipe
from dancedist.retarget.stats import RetargetStats

ROWS_PER_GROUP = 256
THREADS = 16
# A video with one of these errors has no poses: poses of its former content are removed.
CONTENT_ERRORS = frozenset({"video-unreadable", "video-too-large", "no-dancer"})

ERRORS = pa.schema(
    [
        ("name", pa.string()),
        ("uri", pa.string()),
        ("slug", pa.string()),
        ("message", pa.string()),
        ("start_frame", pa.int64()),
        ("stop_frame", pa.int64()),
    ]
)
_PX_COLUMNS = ("median_y", "close_y", "far_y", "close_height", "far_height", "median_x")
_COUNT_TYPE = pa.struct([("y", pa.int32()), ("height", pa.int32()), ("frames", pa.int64())])
# One row per video. px columns as in `RetargetStats.derive`; null if the dancer's feet or head are never seen.
STATS = pa.schema(
    [
        ("name", pa.string()),
        ("uri", pa.string()),
        ("poses_key", pa.string()),
        ("frames", pa.int64()),
        ("frames_with_dancer", pa.int64()),
        ("fps", pa.string()),
        ("topology", pa.string()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        *((name, pa.float64()) for name in _PX_COLUMNS),
        ("version", pa.int32()),
        ("bins_per_side", pa.int32()),
        ("depth", pa.list_(_COUNT_TYPE)),
        ("x", pa.list_(pa.struct([("x", pa.int32()), ("frames", pa.int64())]))),
    ]
)


@dataclass
class Summary:
    """Contents of summary.json. `seconds` by step are summed over the workers, except `wall`."""

    videos: int = 0
    done: int = 0
    found_done: int = 0
    failed: int = 0
    frames: int = 0
    frames_with_dancer: int = 0
    segments_computed: int = 0
    segments_found_done: int = 0
    stopped_early: bool = False
    seconds: dict[str, float] = field(default_factory=dict)
    errors: dict[str, int] = field(default_factory=dict)
    warnings: list[dict[str, Any]] = field(default_factory=list)


def write_errors(store: Storage, failures: Iterable[ErrorRecord]) -> None:
    """Write errors.parquet, sorted by name."""
    rows = sorted((asdict(f) for f in failures), key=lambda r: (r["name"], r["uri"], r["start_frame"] or 0))
    _write_table(store, "errors.parquet", ERRORS, [rows])


def remove_stale(store: Storage, names: Iterable[str], failures: Iterable[ErrorRecord]) -> None:
    """Remove poses that an earlier run wrote for videos `names` whose current content has none (CONTENT_ERRORS)."""
    for name in set(names) & {f.name for f in failures if f.slug in CONTENT_ERRORS}:
        store.delete(f"poses/{name}.parquet")


def write_stats(store: Storage, done: Sequence[str], recipe: RetargetRecipe, summary: Summary) -> None:
    """Write stats.parquet from the records `done`, in this order; adds their frames and warnings to the summary."""

    def rows() -> Iterator[list[dict[str, Any]]]:
        for start in range(0, len(done), ROWS_PER_GROUP):
            with ThreadPoolExecutor(THREADS) as pool:
                records = [json.loads(data) for data in pool.map(store.read, done[start : start + ROWS_PER_GROUP])]
            for record in records:
                summary.frames += record["frames"]
                summary.frames_with_dancer += record["frames_with_dancer"]
                summary.warnings += [{"name": record["name"], **notice} for notice in record["notices"]]
            yield [_stats_row(record, recipe) for record in records]

    _write_table(store, "stats.parquet", STATS, rows())


def write_summary(store: Storage, summary: Summary, failures: Sequence[ErrorRecord]) -> None:
    """Write summary.json."""
    summary.errors = dict(sorted(Counter(f.slug for f in failures).items()))
    summary.failed = len({(f.name, f.uri) for f in failures})
    store.write("summary.json", (json.dumps(asdict(summary), indent=2) + "\n").encode())


def read_stats(store: Storage, name: str) -> dict[str, RetargetStats]:
    """Statistics by name of video, from a stats.parquet. Raises StorageMissing, FileInvalid."""
    uri = f"{store.uri}/{name}"
    try:
        table = pq.read_table(pa.BufferReader(store.read(name)))
    except pa.ArrowException as error:
        raise FileInvalid("is not a stats.parquet", file=uri, expected="Parquet", got=str(error)) from error
    if not set(STATS.names) <= set(table.column_names):
        raise FileInvalid("is not a stats.parquet", file=uri, expected="its columns", got=", ".join(table.column_names))
    return {row["name"]: _stats(row) for row in table.to_pylist()}


def _stats_row(record: dict[str, Any], recipe: RetargetRecipe) -> dict[str, Any]:
    plain = record["stats"]
    stats = RetargetStats.from_dict(plain)
    try:
        px = asdict(stats.derive(recipe))
    except NoDancer:
        px = dict.fromkeys(_PX_COLUMNS)
    return {
        **{k: record[k] for k in ("name", "uri", "poses_key", "frames", "frames_with_dancer", "fps")},
        **{k: plain[k] for k in ("topology", "version", "bins_per_side")},
        "width": plain["size"][0],
        "height": plain["size"][1],
        **{k: px[k] for k in _PX_COLUMNS},
        "depth": [{"y": y, "height": h, "frames": n} for y, h, n in plain["depth"]],
        "x": [{"x": x, "frames": n} for x, n in plain["x"]],
    }


def _stats(row: dict[str, Any]) -> RetargetStats:
    plain = {k: row[k] for k in ("topology", "version", "bins_per_side")}
    depth = [[d["y"], d["height"], d["frames"]] for d in row["depth"]]
    x = [[d["x"], d["frames"]] for d in row["x"]]
    return RetargetStats.from_dict({**plain, "size": [row["width"], row["height"]], "depth": depth, "x": x})


def _write_table(store: Storage, name: str, schema: pa.Schema, groups: Iterable[list[dict[str, Any]]]) -> None:
    with TemporaryDirectory(prefix="dancedist-") as folder:
        path = Path(folder) / name
        with pq.ParquetWriter(path, schema, compression="zstd") as writer:
            for rows in groups:
                writer.write_table(pa.Table.from_pylist(rows, schema))
        store.upload(path, name)
