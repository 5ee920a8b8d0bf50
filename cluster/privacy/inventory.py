"""What a storage has of a person, beside renders and MLflow: found by one listing, and removed in an order that may be
broken off anywhere: what tells of the rest goes last.
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

from cluster.privacy.footage import noted_videos, poses_name, segments_mark, targets_in
from cluster.storage.base import Entry, Storage, open_storage, split_uri
from cluster.training.fleet_file import NOT_NAMES

THREADS = 16
_SEGMENT = re.compile(r"(?P<folder>poses/[^/]+/work/segments/[^/]+)/(?P<file>[^/]+)")


@dataclass
class Traces:
    """Of one person. `removes`: what kind of thing -> its files; `rewrites`: tables that others are in too.

    `begun_with`: folders of bundles that fleets began with; `kept`, `elsewhere`: URIs of videos that others are learnt
    from too, or that lie where only their owner should remove them.
    """

    name: str
    videos: set[str]
    removes: dict[str, list[Entry]] = field(default_factory=lambda: defaultdict(list))
    rewrites: dict[str, bytes] = field(default_factory=dict)
    begun_with: list[str] = field(default_factory=list)
    given: list[str] = field(default_factory=list)
    kept: dict[str, str] = field(default_factory=dict)
    elsewhere: list[str] = field(default_factory=list)

    def __bool__(self) -> bool:
        return any(self.removes.values()) or bool(self.rewrites or self.given)


def find_traces(store: Storage, name: str, given: Sequence[str], also: Iterable[str] = ()) -> Traces:
    """All of it. `given`: videos that may be removed wherever they lie; `also`: hers too, as others tell.

    Raises StorageUnavailable, NameInvalid.
    """
    entries = {entry.name: entry for entry in store.list()}
    others = _videos_of_others(store, name, entries)
    found = Traces(name, noted_videos(store, name) | {*given, *also})
    mine = found.videos - others.keys()
    found.kept = {uri: ", ".join(others[uri]) for uri in sorted(found.videos & others.keys())}
    _footage(found, store, entries, mine, {*given})
    _poses(found, entries, mine)
    _segments(found, entries, mine)
    found.removes["records of poses"] += _done(store, entries, mine)
    for file, without in _tables(entries, name, mine).items():
        data = store.read(file)
        if (rest := without(data)) is not None:
            found.rewrites[file] = rest
    for file in (f for f in entries if re.fullmatch(r"first/[^/]+/dancer\.json", f)):
        if _plain(store.read(file)).get("name") == name:
            folder = file.rpartition("/")[0]
            found.begun_with.append(f"{store.uri}/{folder}")
            found.removes["bundles that others began with"] += _under(entries, folder)
    found.removes["trainings"] += _under(entries, name)
    return found


def remove_traces(store: Storage, found: Traces) -> None:
    """Remove what was found. Raises StorageUnavailable."""
    for file, rest in found.rewrites.items():
        store.write(file, rest)
    files = [entry.name for kind, some in found.removes.items() if kind != "trainings" for entry in some]
    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(store.delete, files))
    for uri in found.given:
        place, file = split_uri(uri)
        open_storage(place).delete(file)
    # With the note of her videos: until here everything is found again.
    store.delete_folder(found.name)


def _under(entries: Mapping[str, Entry], folder: str) -> list[Entry]:
    return [entry for name, entry in entries.items() if name.startswith(f"{folder}/")]


def _videos_of_others(store: Storage, name: str, entries: Mapping[str, Entry]) -> dict[str, list[str]]:
    users: dict[str, list[str]] = defaultdict(list)
    targets = [target for target in targets_in(entries) if target != name and target not in NOT_NAMES]
    with ThreadPoolExecutor(THREADS) as pool:
        for target, videos in zip(targets, pool.map(lambda t: noted_videos(store, t), targets), strict=True):
            for uri in videos:
                users[uri].append(target)
    return users


def _footage(found: Traces, store: Storage, entries: Mapping[str, Entry], mine: set[str], given: set[str]) -> None:
    for uri in sorted(mine):
        place, file = split_uri(uri)
        inside = f"{place}/{file}".removeprefix(f"{store.uri}/")
        if inside in entries:
            found.removes["footage"].append(entries[inside])
        elif uri in given:
            if open_storage(place).stat(file) is not None:
                found.given.append(uri)
        elif not uri.startswith(f"{store.uri}/"):
            found.elsewhere.append(uri)


def _poses(found: Traces, entries: Mapping[str, Entry], mine: set[str]) -> None:
    names = {f"{poses_name(uri)}.parquet" for uri in mine}
    in_poses = (entry for name, entry in entries.items() if name.startswith("poses/"))
    found.removes["poses"] += [entry for entry in in_poses if entry.name.rpartition("/")[2] in names]


def _segments(found: Traces, entries: Mapping[str, Entry], mine: set[str]) -> None:
    folders: dict[str, dict[str, Entry]] = defaultdict(dict)
    for name, entry in entries.items():
        if parts := _SEGMENT.fullmatch(name):
            folders[parts["folder"]][parts["file"]] = entry
    marks = {segments_mark(uri) for uri in mine}
    for files in folders.values():
        whose = {file for file in files if file.startswith("of-")}
        if whose & marks:
            # A copy of her video under another's name has the same segments.
            gone = files if whose <= marks else whose & marks
            # Marks last: without one, nobody would know whose the rest is.
            found.removes["segments"] += [files[file] for file in sorted(gone, key=lambda file: file in whose)]


def _done(store: Storage, entries: Mapping[str, Entry], mine: set[str]) -> list[Entry]:
    records = [entry for name, entry in entries.items() if re.fullmatch(r"poses/[^/]+/work/done/[^/]+\.json", name)]
    with ThreadPoolExecutor(THREADS) as pool:
        read = pool.map(lambda entry: _plain(store.read(entry.name)), records)
        return [entry for entry, plain in zip(records, read, strict=True) if plain.get("uri") in mine]


def _tables(entries: Mapping[str, Entry], name: str, mine: set[str]) -> dict[str, Callable[[bytes], bytes | None]]:
    """Files that others are in too, and what is left of them without her; None where she is not in it."""
    names = {poses_name(uri) for uri in mine}
    rows = {
        "stats.parquet": lambda data: _rows(data, mine),
        "errors.parquet": lambda data: _rows(data, mine),
        "summary.json": lambda data: _summary(data, names),
    }
    tables = {file: rows[last] for file in entries if (last := _of_folder(file)) in rows}
    fleets = [file for file in entries if re.fullmatch(r"[^/]+\.json", file)]
    return tables | dict.fromkeys(fleets, lambda data: _fleet(data, name))


def _of_folder(file: str) -> str | None:
    parts = re.fullmatch(r"poses/[^/]+/([^/]+)", file)
    return None if parts is None else parts[1]


def _rows(data: bytes, mine: set[str]) -> bytes | None:
    table = pq.read_table(pa.BufferReader(data))
    hers = pc.is_in(table["uri"], pa.array(sorted(mine), pa.string()))
    if not pc.any(hers).as_py():
        return None
    rest = io.BytesIO()
    pq.write_table(table.filter(pc.invert(hers)), rest, compression="zstd")
    return rest.getvalue()


def _summary(data: bytes, names: set[str]) -> bytes | None:
    plain = _plain(data)
    rest = [warning for warning in plain["warnings"] if warning["name"] not in names]
    return None if len(rest) == len(plain["warnings"]) else _text({**plain, "warnings": rest})


def _fleet(data: bytes, name: str) -> bytes | None:
    try:
        rows = json.loads(data)
    except ValueError:
        rows = None
    if not isinstance(rows, list):
        # Somebody's own file.
        return None
    rest = [row for row in rows if not (isinstance(row, dict) and row.get("target") == name)]
    return None if len(rest) == len(rows) else _text(rest)


def _plain(data: bytes) -> dict[str, Any]:
    plain: dict[str, Any] = json.loads(data)
    return plain


def _text(plain: object) -> bytes:
    return (json.dumps(plain, indent=2) + "\n").encode()
