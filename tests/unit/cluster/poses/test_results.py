from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from cluster.core.error_records import ErrorRecord
from cluster.poses.results import Summary, read_stats, remove_stale, write_errors, write_stats, write_summary
from cluster.storage.base import StorageMissing
from cluster.storage.open import open_storage
from dancedist.errors import FileInvalid
from dancedist.recipe.schema import RetargetRecipe
from dancedist.retarget.stats import RetargetStats

WALK = RetargetStats(
    "halpe26", (640, 480), Counter({(1000 * i, 20000 + 10 * i): i for i in range(1, 6)}), Counter({300: 9, 400: 6})
)
NEVER_UPRIGHT = RetargetStats("halpe26", (640, 480), Counter({(7, 0): 3}), Counter({3: 3}))


def record(name: str, stats: RetargetStats) -> bytes:
    plain: dict[str, Any] = {
        "name": name, "uri": f"/films/{name}.mp4", "poses_key": "k" * 16, "frames": 20, "frames_with_dancer": 15,
        "fps": "25", "notices": [{"slug": "cut-off", "message": "short", "frame": 3}], "stats": stats.to_dict(),
    }  # fmt: skip
    return json.dumps(plain).encode()


def test_statistics_survive_a_round_trip(tmp_path: Path) -> None:
    store, summary = open_storage(str(tmp_path)), Summary()
    store.write("a.json", record("a", WALK))
    store.write("b.json", record("b", NEVER_UPRIGHT))
    write_stats(store, ["a.json", "b.json"], RetargetRecipe(), summary)
    assert read_stats(store, "stats.parquet") == {"a": WALK, "b": NEVER_UPRIGHT}
    rows = pq.read_table(tmp_path / "stats.parquet").to_pylist()
    assert rows[0]["close_y"] == WALK.derive(RetargetRecipe()).close_y
    assert rows[1]["close_y"] is None
    assert (summary.frames, summary.frames_with_dancer) == (40, 30)
    assert summary.warnings[0] == {"name": "a", "slug": "cut-off", "message": "short", "frame": 3}


def test_other_files_are_refused(tmp_path: Path) -> None:
    store = open_storage(str(tmp_path))
    write_errors(store, [])
    store.write("text.parquet", b"text")
    for name in ("errors.parquet", "text.parquet"):
        with pytest.raises(FileInvalid):
            assert read_stats(store, name)
    with pytest.raises(StorageMissing):
        read_stats(store, "gone.parquet")


def test_errors_are_sorted_rows_and_counted_in_the_summary(tmp_path: Path) -> None:
    store = open_storage(str(tmp_path))
    failures = [
        ErrorRecord("b", "u", "no-dancer", "nobody"),
        ErrorRecord("a", "u", "worker-lost", "m", 8, 16),
        ErrorRecord("a", "u", "x", "m", 0, 8),
    ]
    write_errors(store, failures)
    rows = pq.read_table(tmp_path / "errors.parquet").to_pylist()
    assert [ErrorRecord(**row) for row in rows] == [failures[2], failures[1], failures[0]]
    summary = Summary(videos=3, done=1)
    write_summary(store, summary, failures)
    written = json.loads((tmp_path / "summary.json").read_text())
    assert (written["failed"], written["errors"]) == (2, {"no-dancer": 1, "worker-lost": 1, "x": 1})


def test_poses_of_former_content_are_removed(tmp_path: Path) -> None:
    store = open_storage(str(tmp_path))
    for name in "abc":
        store.write(f"poses/{name}.parquet", b"")
    slugs = {"a": "video-unreadable", "b": "worker-lost", "c": "no-dancer"}
    # c's poses stay: it is not among the videos that were processed, and failed only in normalisation.
    remove_stale(store, ["a", "b"], [ErrorRecord(n, "u", s, "m") for n, s in slugs.items()])
    assert [e.name for e in store.list("poses/")] == ["poses/b.parquet", "poses/c.parquet"]
