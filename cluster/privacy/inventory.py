"""Inventory and deletion of a person's data in a storage, without renders and MLflow.

One listing finds everything. Deletion may be interrupted anywhere: files that lead to the rest are deleted last.
"""

from __future__ import annotations

import io
import json
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from cluster.poses.names import poses_name, segments_mark
from cluster.storage.base import Entry, Storage
from cluster.storage.open import open_storage, split_uri
from cluster.training.fleet_file import RESERVED_NAMES
from cluster.training.target_videos import noted_videos, targets_in

THREADS = 16
_SEGMENT = re.compile(r"(?P<folder>poses/[^/]+/work/segments/[^/]+)/(?P<file>[^/]+)")


@dataclass
class DataInventory:
    """Data of one person in a storage.

    `to_remove`: kind -> files; `to_rewrite`: tables shared with others -> their new content; `begun_with`: folders of
    the person's bundles that fleets used as initial weights; `given`: videos outside of the storage to delete;
    `kept`: URI of a video that others are trained on too -> their names; `outside`: videos that only their owner
    should delete.
    """

    name: str
    videos: set[str]
    to_remove: dict[str, list[Entry]] = field(default_factory=lambda: defaultdict(list))
    to_rewrite: dict[str, bytes] = field(default_factory=dict)
    begun_with: list[str] = field(default_factory=list)
    given: list[str] = field(default_factory=list)
    kept: dict[str, str] = field(default_factory=dict)
    outside: list[str] = field(default_factory=list)

    def __bool__(self) -> bool:
        return any(self.to_remove.values()) or bool(self.to_rewrite or self.given)


def find_data(store: Storage, name: str, given: Sequence[str], also: Iterable[str] = ()) -> DataInventory:
    """Find all data of the person `name`.

    `given`: videos that may be deleted wherever they are; `also`: further videos of the person, from other records.
    Raises StorageUnavailable, NameInvalid.
    """
    entries = {entry.name: entry for entry in store.list()}
    others = _videos_of_others(store, name, entries)
    inventory = DataInventory(name, noted_videos(store, name) | {*given, *also})
    own_videos = inventory.videos - others.keys()
    inventory.kept = {uri: ", ".join(others[uri]) for uri in sorted(inventory.videos & others.keys())}
    _find_footage(inventory, store, entries, own_videos, {*given})
    _find_poses(inventory, entries, own_videos)
    _find_segments(inventory, entries, own_videos)
    inventory.to_remove["records of poses"] += _find_records(store, entries, own_videos)
    for file, without in _table_filters(entries, name, own_videos).items():
        data = store.read(file)
        if (rest := without(data)) is not None:
            inventory.to_rewrite[file] = rest
    for file in (f for f in entries if re.fullmatch(r"first/[^/]+/dancer\.json", f)):
        if _from_json(store.read(file)).get("name") == name:
            folder = file.rpartition("/")[0]
            inventory.begun_with.append(f"{store.uri}/{folder}")
            inventory.to_remove["bundles that others began with"] += _in_folder(entries, folder)
    inventory.to_remove["trainings"] += _in_folder(entries, name)
    return inventory


def purge_data(store: Storage, inventory: DataInventory) -> None:
    """Delete everything in the inventory. Raises StorageUnavailable."""
    for file, rest in inventory.to_rewrite.items():
        store.write(file, rest)
    files = [entry.name for kind, entries in inventory.to_remove.items() if kind != "trainings" for entry in entries]
    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(store.delete, files))
    for uri in inventory.given:
        folder, file = split_uri(uri)
        open_storage(folder).delete(file)
    # Last, as it contains the record of the person's videos: an interrupted run finds everything again.
    store.delete_folder(inventory.name)


def _in_folder(entries: Mapping[str, Entry], folder: str) -> list[Entry]:
    return [entry for name, entry in entries.items() if name.startswith(f"{folder}/")]


def _videos_of_others(store: Storage, name: str, entries: Mapping[str, Entry]) -> dict[str, list[str]]:
    users: dict[str, list[str]] = defaultdict(list)
    targets = [target for target in targets_in(entries) if target != name and target not in RESERVED_NAMES]
    with ThreadPoolExecutor(THREADS) as pool:
        for target, videos in zip(targets, pool.map(lambda t: noted_videos(store, t), targets), strict=True):
            for uri in videos:
                users[uri].append(target)
    return users


def _find_footage(
    inventory: DataInventory, store: Storage, entries: Mapping[str, Entry], own_videos: set[str], given: set[str]
) -> None:
    for uri in sorted(own_videos):
        folder, file = split_uri(uri)
        name = f"{folder}/{file}".removeprefix(f"{store.uri}/")
        if name in entries:
            inventory.to_remove["footage"].append(entries[name])
        elif uri in given:
            if open_storage(folder).stat(file) is not None:
                inventory.given.append(uri)
        elif not uri.startswith(f"{store.uri}/"):
            inventory.outside.append(uri)


def _find_poses(inventory: DataInventory, entries: Mapping[str, Entry], own_videos: set[str]) -> None:
    names = {f"{poses_name(uri)}.parquet" for uri in own_videos}
    in_poses = (entry for name, entry in entries.items() if name.startswith("poses/"))
    inventory.to_remove["poses"] += [entry for entry in in_poses if entry.name.rpartition("/")[2] in names]


def _find_segments(inventory: DataInventory, entries: Mapping[str, Entry], own_videos: set[str]) -> None:
    folders: dict[str, dict[str, Entry]] = defaultdict(dict)
    for name, entry in entries.items():
        if parts := _SEGMENT.fullmatch(name):
            folders[parts["folder"]][parts["file"]] = entry
    marks = {segments_mark(uri) for uri in own_videos}
    for files in folders.values():
        marks_found = {file for file in files if file.startswith("of-")}
        if marks_found & marks:
            # Copies of a video under several names share their segments: another person's copy keeps them.
            own_files = files if marks_found <= marks else marks_found & marks
            # Marks last: they tell whose segments these are.
            inventory.to_remove["segments"] += [
                files[file] for file in sorted(own_files, key=lambda file: file in marks_found)
            ]


def _find_records(store: Storage, entries: Mapping[str, Entry], own_videos: set[str]) -> list[Entry]:
    records = [entry for name, entry in entries.items() if re.fullmatch(r"poses/[^/]+/work/done/[^/]+\.json", name)]
    with ThreadPoolExecutor(THREADS) as pool:
        read = pool.map(lambda entry: _from_json(store.read(entry.name)), records)
        return [entry for entry, record in zip(records, read, strict=True) if record.get("uri") in own_videos]


def _table_filters(
    entries: Mapping[str, Entry], name: str, own_videos: set[str]
) -> dict[str, Callable[[bytes], bytes | None]]:
    """Files shared with other people -> a filter that returns the content without the person; None if unchanged."""
    names = {poses_name(uri) for uri in own_videos}
    filters = {
        "stats.parquet": lambda data: _without_rows(data, own_videos),
        "errors.parquet": lambda data: _without_rows(data, own_videos),
        "summary.json": lambda data: _without_warnings(data, names),
    }
    tables = {file: filters[table] for file in entries if (table := _poses_table(file)) in filters}
    fleets = [file for file in entries if re.fullmatch(r"[^/]+\.json", file)]
    return tables | dict.fromkeys(fleets, lambda data: _without_target(data, name))


def _poses_table(file: str) -> str | None:
    parts = re.fullmatch(r"poses/[^/]+/([^/]+)", file)
    return None if parts is None else parts[1]


def _without_rows(data: bytes, own_videos: set[str]) -> bytes | None:
    table = pq.read_table(pa.BufferReader(data))
    is_own = pc.is_in(table["uri"], pa.array(sorted(own_videos), pa.string()))
    if not pc.any(is_own).as_py():
        return None
    rest = io.BytesIO()
    pq.write_table(table.filter(pc.invert(is_own)), rest, compression="zstd")
    return rest.getvalue()


def _without_warnings(data: bytes, names: set[str]) -> bytes | None:
    summary = _from_json(data)
    rest = [warning for warning in summary["warnings"] if warning["name"] not in names]
    return None if len(rest) == len(summary["warnings"]) else _to_json({**summary, "warnings": rest})


def _without_target(data: bytes, name: str) -> bytes | None:
    try:
        rows = json.loads(data)
    except ValueError:
        rows = None
    if not isinstance(rows, list):
        # Not a fleet's status file.
        return None
    rest = [row for row in rows if not (isinstance(row, dict) and row.get("target") == name)]
    return None if len(rest) == len(rows) else _to_json(rest)


def _from_json(data: bytes) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(data)
    return value


def _to_json(value: object) -> bytes:
    return (json.dumps(value, indent=2) + "\n").encode()
