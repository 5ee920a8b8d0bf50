"""INPUT... of a job -> videos with the names that their results will have, by listing alone: nothing is read."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import PurePosixPath

import pyarrow as pa
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet

from cluster.core.error_records import Fault, NameTaken
from cluster.storage.base import Entry, NameInvalid, StorageMissing, open_storage, split_uri
from dancedist.errors import DancedistError, FileInvalid

# What is taken from a folder. A file or a glob that is named is taken whatever it is called.
VIDEO_SUFFIXES = frozenset(".3gp .avi .flv .m2ts .m4v .mkv .mov .mp4 .mpeg .mpg .mts .mxf .ogv .ts .webm .wmv".split())
MANIFEST_SUFFIXES = frozenset(".csv .jsonl .ndjson .parquet".split())
# From so many files of one folder on, listing it is quicker than asking for each.
LIST_FROM_FILES = 8
THREADS = 16


@dataclass(frozen=True, slots=True)
class Listed:
    """A video that was found: `name` for its results, and what its store says of it."""

    name: str
    uri: str
    size_bytes: int
    etag: str


def find_videos(inputs: Sequence[str]) -> tuple[list[Listed], list[Fault]]:
    """Videos by name, and what of the inputs is none or has the name of another.

    An input is a file, a folder, a glob (`*` within a folder, `**` across) or a manifest (CSV, JSON lines or Parquet
    with columns `uri` and, where it should not be the file's own, `name`); on a disk or `s3://`.
    """
    found: dict[str, Listed] = {}
    faults: list[Fault] = []
    for item in (item for text in inputs for item in _guarded(text)):
        if isinstance(item, Fault):
            faults.append(item)
        elif (first := found.setdefault(item.name, item)).uri != item.uri:
            error = NameTaken("two videos have one name", file=item.uri, expected="another name", got=first.uri)
            faults.append(Fault.of(error, item.name, item.uri))
    return [found[name] for name in sorted(found)], faults


def _guarded(text: str) -> Iterator[Listed | Fault]:
    try:
        yield from _videos(text)
    except DancedistError as error:
        yield Fault.of(error, PurePosixPath(text).stem or text, text)


def _videos(text: str) -> Iterator[Listed | Fault]:
    if re.search(r"[*?\[]", text):
        yield from _matching(text)
        return
    if re.fullmatch(r"s3://[^/]+/*", text):
        yield from _in_folder(text)
        return
    store, name = split_uri(text.rstrip("/"))
    entry = None if text.endswith("/") else open_storage(store).stat(name)
    if entry is None:
        yield from _in_folder(text.rstrip("/"))
    elif PurePosixPath(name).suffix.lower() in MANIFEST_SUFFIXES:
        yield from _in_manifest(store, name)
    else:
        yield _listed(PurePosixPath(name).stem, store, entry)


def _listed(name: str, store: str, entry: Entry) -> Listed:
    return Listed(checked_video_name(name), f"{store.rstrip('/')}/{entry.name}", entry.size_bytes, entry.etag)


def checked_video_name(name: str) -> str:
    """The name itself, which will be that of a file. Raises NameInvalid."""
    if not name or "/" in name or "\\" in name or name.startswith(".") or not name.isprintable():
        raise NameInvalid("cannot be a video's name", file=name, expected="no slash, no dot before it, printable")
    return name


def _in_folder(uri: str) -> Iterator[Listed]:
    """Videos at any depth; `sub/film.mp4` is named sub__film."""
    some, store = False, open_storage(uri)
    for entry in store.list():
        path = PurePosixPath(entry.name)
        if path.suffix.lower() in VIDEO_SUFFIXES and not any(part.startswith(".") for part in path.parts):
            some = True
            yield _listed("__".join(path.with_suffix("").parts), store.uri, entry)
    if not some:
        raise StorageMissing("is neither a file nor a folder with videos", file=uri)


def _matching(pattern: str) -> Iterator[Listed]:
    literal = re.split(r"[*?\[]", pattern)[0]
    uri = literal.rpartition("/")[0] or ("/" if pattern.startswith("/") else ".")
    store = open_storage(uri)
    wanted = re.compile(_regex(pattern[len(literal.rpartition("/")[0]) :].lstrip("/")))
    some = False
    for entry in store.list(literal.rpartition("/")[2]):
        if wanted.fullmatch(entry.name):
            some = True
            yield _listed(PurePosixPath(entry.name).stem, store.uri, entry)
    if not some:
        raise StorageMissing("nothing matches", file=pattern)


def _regex(glob: str) -> str:
    known = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    pieces = re.findall(r"\*\*/|\*\*|\*|\?|\[[^\]]+\]|.", glob)
    return "".join(known.get(p) or (p.replace("[!", "[^") if len(p) > 1 else re.escape(p)) for p in pieces)


def _in_manifest(store: str, name: str) -> Iterator[Listed | Fault]:
    table = _read_manifest(f"{store}/{name}", open_storage(store).read(name))
    uris = [uri if "://" in uri or uri.startswith("/") else f"{store}/{uri}" for uri in table["uri"].to_pylist()]
    names = table["name"].to_pylist() if "name" in table.column_names else [None] * len(uris)
    entries = dict(_entries(uris))
    for uri, wanted in zip(uris, names, strict=True):
        name, entry = wanted or PurePosixPath(uri).stem, entries[uri]
        try:
            if isinstance(entry, DancedistError):
                raise entry
            yield Listed(checked_video_name(name), uri, entry.size_bytes, entry.etag)
        except DancedistError as error:
            yield Fault.of(error, name, uri)


def _read_manifest(uri: str, data: bytes) -> pa.Table:
    readers = {".csv": pa.csv.read_csv, ".parquet": pa.parquet.read_table}
    try:
        table = readers.get(PurePosixPath(uri).suffix.lower(), pa.json.read_json)(pa.BufferReader(data))
    except pa.ArrowException as error:
        raise FileInvalid("is no manifest", file=uri, expected="a table", got=str(error).splitlines()[0]) from error
    if "uri" not in table.column_names:
        raise FileInvalid("is no manifest", file=uri, expected="a column uri", got=", ".join(table.column_names))
    columns = [c for c in ("uri", "name") if c in table.column_names]
    table = table.select(columns).cast(pa.schema([(c, pa.string()) for c in columns]))
    if table["uri"].null_count:
        raise FileInvalid("is no manifest", file=uri, expected="a uri in every row", got="rows without one")
    return table


def _entries(uris: Iterable[str]) -> Iterator[tuple[str, Entry | DancedistError]]:
    """What their stores know of these files; a folder of which many are wanted is listed once."""
    folders: dict[str, dict[str, str]] = defaultdict(dict)
    for uri in uris:
        try:
            store, name = split_uri(uri)
        except DancedistError as error:
            yield uri, error
            continue
        folders[store][name] = uri
    with ThreadPoolExecutor(THREADS) as pool:
        yield from (pair for pairs in pool.map(_of_folder, folders.items()) for pair in pairs)


def _of_folder(folder: tuple[str, dict[str, str]]) -> list[tuple[str, Entry | DancedistError]]:
    store, wanted = folder[0], open_storage(folder[0])
    try:
        if len(folder[1]) >= LIST_FROM_FILES:
            known: dict[str, Entry | None] = {e.name: e for e in wanted.list() if e.name in folder[1]}
        else:
            known = {name: wanted.stat(name) for name in folder[1]}
    except DancedistError as error:
        return [(uri, error) for uri in folder[1].values()]
    missing = {name: StorageMissing("is not there", file=f"{store}/{name}") for name in folder[1]}
    return [(uri, known.get(name) or missing[name]) for name, uri in folder[1].items()]
