"""Second pass: retarget the poses of many sources to one target (eqs. 7-9 of the ICCV paper)."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import ray

from cluster.core.error_records import ErrorRecord
from cluster.poses.results import read_stats
from cluster.poses.segments import upload_poses
from cluster.storage.base import Storage
from cluster.storage.open import open_storage, split_uri
from dancedist.errors import DancedistError, FileInvalid, Notice
from dancedist.pose.sequence import PoseSequence, read_poses
from dancedist.recipe.schema import RetargetRecipe
from dancedist.retarget.stats import RetargetStats
from dancedist.retarget.transform import retarget

CPUS = 0.25
VIDEOS_PER_TASK = 8


def read_target(text: str) -> tuple[str, RetargetStats]:
    """Name and statistics of the target in `STATS[#NAME]`; the name is optional if there is only one row.

    Raises FileInvalid, StorageMissing.
    """
    uri, _, wanted = text.partition("#")
    store, name = split_uri(uri)
    rows = read_stats(open_storage(store), name)
    if not wanted and len(rows) == 1:
        return next(iter(rows.items()))
    if wanted not in rows:
        names = ", ".join(sorted(rows)[:10]) or "none"
        raise FileInvalid(
            "needs the name of a target", file=uri, expected=f"{uri}#NAME with one of: {names}", got=wanted or "no name"
        )
    return wanted, rows[wanted]


def normalise(
    output: str, videos: Mapping[str, str], target: tuple[str, RetargetStats], recipe: RetargetRecipe
) -> Iterator[ErrorRecord | tuple[str, tuple[Notice, ...]]]:
    """Write retargeted/TARGET/NAME.parquet for every video (name -> URI); up-to-date files stay.

    Yields an error record, or the name with the notices of its retargeted poses.
    """
    if not videos:
        return
    tasks = -(-len(videos) // VIDEOS_PER_TASK)
    named = ray.data.from_items([{"name": name} for name in videos], override_num_blocks=tasks)
    settings = {"output": output, "target": target, "recipe": recipe}
    results = named.map(_normalise_row, fn_kwargs=settings, num_cpus=CPUS)
    seen = set()
    for row in results.iter_rows():
        seen.add(row["name"])
        if row["slug"]:
            yield ErrorRecord(row["name"], videos[row["name"]], row["slug"], row["message"])
        else:
            yield row["name"], tuple(Notice(**n) for n in json.loads(row["notices"]))
    for name in sorted(set(videos) - seen):
        yield ErrorRecord(name, videos[name], "worker-lost", "crashes every process that normalises it")


def _normalise_row(
    row: dict[str, str], output: str, target: tuple[str, RetargetStats], recipe: RetargetRecipe
) -> dict[str, Any]:
    store, name = open_storage(output), row["name"]
    try:
        notices = _normalise_one(store, name, target, recipe)
        return {"name": name, "slug": "", "message": "", "notices": json.dumps([asdict(n) for n in notices])}
    except DancedistError as error:
        return {"name": name, "slug": error.slug, "message": str(error), "notices": "[]"}


def _normalise_one(
    store: Storage, name: str, target: tuple[str, RetargetStats], recipe: RetargetRecipe
) -> tuple[Notice, ...]:
    """Retarget one video's poses and write them unless the stored file has the same fingerprint."""
    source = _poses(store, f"poses/{name}.parquet")
    out = f"retargeted/{target[0]}/{name}.parquet"
    retargeted = retarget(source, RetargetStats.of(source), target[1], recipe, target[1].size)
    if store.stat(out) is None or _poses(store, out).fingerprint != retargeted.fingerprint:
        upload_poses(store, retargeted, out)
    return retargeted.notices


def _poses(store: Storage, name: str) -> PoseSequence:
    with TemporaryDirectory(prefix="dancedist-") as folder:
        store.download(name, path := Path(folder) / "poses.parquet")
        return read_poses(path)
