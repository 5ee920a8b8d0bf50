"""INPUT... of a job -> videos and their names, by listing alone: no video is read."""

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

from cluster.core.error_records import ErrorRecord, NameTaken
from cluster.storage.base import Entry, NameInvalid, StorageMissing
from cluster.storage.open import open_storage, split_uri
from dancedist.errors import DancedistError, FileInvalid

# Suffixes of videos in a folder. A file or a glob that is given explicitly may have any suffix.
VIDEO_SUFFIXES = frozenset(".3gp .avi .flv .m2ts .m4v .mkv .mov .mp4 .mpeg .mpg .mts .mxf .ogv .ts .webm .wmv".split())
MANIFEST_SUFFIXES = frozenset(".csv .jsonl .ndjson .parquet".split())
# For at least this many files of one folder, listing the folder is faster than one request per file.
LIST_THRESHOLD = 8
THREADS = 16


@dataclass(frozen=True, slots=True)
class ListedVideo:
    """A listed video: `name` of its results, and its metadata in the store."""

    name: str
    uri: str
    size_bytes: int
    etag: str


def find_videos(inputs: Sequence[str]) -> tuple[list[ListedVideo], list[ErrorRecord]]:
    """Videos sorted by name, and error records of inputs that are not videos or whose name is taken.

    An input is a file, a folder, a glob (`*` within a folder, `**` across folders) or a manifest (CSV, JSON lines or
    Parquet with a column `uri` and optionally `name`, by default the file's own), on a disk or `s3://`.
    """
    videos: dict[str, ListedVideo] = {}
    failures: list[ErrorRecord] = []
    for item in (item for text in inputs for item in _videos_or_error(text)):
        if isinstance(item, ErrorRecord):
            failures.append(item)
        elif (first := videos.setdefault(item.name, item)).uri != item.uri:
            error = NameTaken("has the name of another video", file=item.uri, expected="unique names", got=first.uri)
            failures.append(ErrorRecord.from_error(error, item.name, item.uri))
    return [videos[name] for name in sorted(videos)], failures


def _videos_or_error(text: str) -> Iterator[ListedVideo | ErrorRecord]:
    try:
        yield from _videos(text)
    except DancedistError as error:
        yield ErrorRecord.from_error(error, PurePosixPath(text).stem or text, text)


def _videos(text: str) -> Iterator[ListedVideo | ErrorRecord]:
    if re.search(r"[*?\[]", text):
        yield from _videos_matching(text)
        return
    if re.fullmatch(r"s3://[^/]+/*", text):
        yield from _videos_in_folder(text)
        return
    store, name = split_uri(text.rstrip("/"))
    entry = None if text.endswith("/") else open_storage(store).stat(name)
    if entry is None:
        yield from _videos_in_folder(text.rstrip("/"))
    elif PurePosixPath(name).suffix.lower() in MANIFEST_SUFFIXES:
        yield from _videos_in_manifest(store, name)
    else:
        yield _listed(PurePosixPath(name).stem, store, entry)


def _listed(name: str, store: str, entry: Entry) -> ListedVideo:
    return ListedVideo(checked_video_name(name), f"{store.rstrip('/')}/{entry.name}", entry.size_bytes, entry.etag)


def checked_video_name(name: str) -> str:
    """Return the name, which becomes a file name. Raises NameInvalid."""
    if not name or "/" in name or "\\" in name or name.startswith(".") or not name.isprintable():
        raise NameInvalid("is not a valid name of a video", file=name, expected="printable, no slash, no leading dot")
    return name


def _videos_in_folder(uri: str) -> Iterator[ListedVideo]:
    """Videos at any depth; `sub/film.mp4` gets the name sub__film."""
    any_found, store = False, open_storage(uri)
    for entry in store.list():
        path = PurePosixPath(entry.name)
        if path.suffix.lower() in VIDEO_SUFFIXES and not any(part.startswith(".") for part in path.parts):
            any_found = True
            yield _listed("__".join(path.with_suffix("").parts), store.uri, entry)
    if not any_found:
        raise StorageMissing("is neither a file nor a folder with videos", file=uri)


def _videos_matching(pattern: str) -> Iterator[ListedVideo]:
    literal = re.split(r"[*?\[]", pattern)[0]
    uri = literal.rpartition("/")[0] or ("/" if pattern.startswith("/") else ".")
    store = open_storage(uri)
    regex = re.compile(_glob_to_regex(pattern[len(literal.rpartition("/")[0]) :].lstrip("/")))
    any_found = False
    for entry in store.list(literal.rpartition("/")[2]):
        if regex.fullmatch(entry.name):
            any_found = True
            yield _listed(PurePosixPath(entry.name).stem, store.uri, entry)
    if not any_found:
        raise StorageMissing("matches no file", file=pattern)


def _glob_to_regex(glob: str) -> str:
    wildcards = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    pieces = re.findall(r"\*\*/|\*\*|\*|\?|\[[^\]]+\]|.", glob)
    return "".join(wildcards.get(p) or (p.replace("[!", "[^") if len(p) > 1 else re.escape(p)) for p in pieces)


def _videos_in_manifest(store: str, name: str) -> Iterator[ListedVideo | ErrorRecord]:
    table = _read_manifest(f"{store}/{name}", open_storage(store).read(name))
    uris = [uri if "://" in uri or uri.startswith("/") else f"{store}/{uri}" for uri in table["uri"].to_pylist()]
    names = table["name"].to_pylist() if "name" in table.column_names else [None] * len(uris)
    entries = dict(_entries(uris))
    for uri, given_name in zip(uris, names, strict=True):
        name, entry = given_name or PurePosixPath(uri).stem, entries[uri]
        try:
            if isinstance(entry, DancedistError):
                raise entry
            yield ListedVideo(checked_video_name(name), uri, entry.size_bytes, entry.etag)
        except DancedistError as error:
            yield ErrorRecord.from_error(error, name, uri)


def _read_manifest(uri: str, data: bytes) -> pa.Table:
    readers = {".csv": pa.csv.read_csv, ".parquet": pa.parquet.read_table}
    try:
        table = readers.get(PurePosixPath(uri).suffix.lower(), pa.json.read_json)(pa.BufferReader(data))
    except pa.ArrowException as error:
        raise FileInvalid("is not a manifest", file=uri, expected="a table", got=str(error).splitlines()[0]) from error
    if "uri" not in table.column_names:
        raise FileInvalid("is not a manifest", file=uri, expected="a column uri", got=", ".join(table.column_names))
    columns = [c for c in ("uri", "name") if c in table.column_names]
    table = table.select(columns).cast(pa.schema([(c, pa.string()) for c in columns]))
    if table["uri"].null_count:
        raise FileInvalid("is not a manifest", file=uri, expected="a uri in every row", got="rows without one")
    return table


def _entries(uris: Iterable[str]) -> Iterator[tuple[str, Entry | DancedistError]]:
    """Metadata of these files; a folder with many of them is listed once."""
    folders: dict[str, dict[str, str]] = defaultdict(dict)
    for uri in uris:
        try:
            store, name = split_uri(uri)
        except DancedistError as error:
            yield uri, error
            continue
        folders[store][name] = uri
    with ThreadPoolExecutor(THREADS) as pool:
        yield from (pair for pairs in pool.map(_folder_entries, folders.items()) for pair in pairs)


def _folder_entries(folder: tuple[str, dict[str, str]]) -> list[tuple[str, Entry | DancedistError]]:
    """Metadata or error by URI, of the files of one folder: (URI of the folder, {name: URI of the file})."""
    folder_uri, uris = folder
    store = open_storage(folder_uri)
    try:
        if len(uris) >= LIST_THRESHOLD:
            entries: dict[str, Entry | None] = {e.name: e for e in store.list() if e.name in uris}
        else:
            entries = {name: store.stat(name) for name in uris}
    except DancedistError as error:
        return [(uri, error) for uri in uris.values()]
    missing = {name: StorageMissing("does not exist", file=f"{folder_uri}/{name}") for name in uris}
    return [(uri, entries.get(name) or missing[name]) for name, uri in uris.items()]
