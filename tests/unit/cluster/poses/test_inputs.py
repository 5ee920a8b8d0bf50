from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cluster.poses.inputs import checked_video_name, find_videos
from cluster.storage.base import NameInvalid, open_storage
from tests.support.s3 import S3Server


@pytest.fixture(params=["folder", "bucket"])
def place(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """a.mp4, b.MOV, notes.txt, more/a.mp4, more/deep/c.webm, .hidden/d.mp4"""
    uri = str(tmp_path / "films")
    if request.param == "bucket":
        server: S3Server = request.getfixturevalue("s3_server")
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        uri = server.uri(f"inputs/{tmp_path.name}")
    store = open_storage(uri)
    for name in ("a.mp4", "b.MOV", "notes.txt", "more/a.mp4", "more/deep/c.webm", ".hidden/d.mp4"):
        store.write(name, name.encode())
    return uri


def names(*inputs: str) -> list[str]:
    videos, faults = find_videos(inputs)
    assert faults == []
    return [v.name for v in videos]


def test_a_folder_is_searched_for_videos(place: str) -> None:
    videos, faults = find_videos([place])
    assert [v.name for v in videos] == ["a", "b", "more__a", "more__deep__c"]
    assert faults == []
    assert videos[2].uri == f"{place}/more/a.mp4"
    assert (videos[2].size_bytes, videos[2].etag) == (10, open_storage(place).stat("more/a.mp4").etag)  # type: ignore[union-attr]
    assert names(place + "/") == [v.name for v in videos]


def test_a_whole_bucket_is_a_folder(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in s3_server.environment.items():
        monkeypatch.setenv(name, value)
    uri = s3_server.uri("whole")
    open_storage(uri).write("a.mp4", b"a")
    assert names(uri) == names(uri + "/") == ["a"]
    assert find_videos([uri])[0][0].uri == "s3://whole/a.mp4"


def test_files_are_taken_whatever_they_are_called(place: str) -> None:
    assert names(f"{place}/notes.txt", f"{place}/more/deep/c.webm") == ["c", "notes"]


@pytest.mark.parametrize(
    ("glob", "found"),
    [
        ("*.mp4", ["a"]),
        ("*", ["a", "b", "notes"]),
        ("**/*.webm", ["c"]),
        ("more/**", ["a", "c"]),
        ("?.[mM]*", ["a", "b"]),
        ("[!a].*", ["b"]),
    ],
)
def test_globs(place: str, glob: str, found: list[str]) -> None:
    assert names(f"{place}/{glob}") == found


def test_the_same_video_twice_is_one_and_another_of_its_name_is_told(place: str) -> None:
    assert names(place, f"{place}/a.mp4") == ["a", "b", "more__a", "more__deep__c"]
    videos, faults = find_videos([f"{place}/a.mp4", f"{place}/more/a.mp4"])
    assert [v.uri for v in videos] == [f"{place}/a.mp4"]
    assert [(f.name, f.slug, f.uri) for f in faults] == [("a", "name-taken", f"{place}/more/a.mp4")]


ROWS = [
    {"name": "first", "uri": "a.mp4"},
    {"name": None, "uri": "more/deep/c.webm"},
    {"name": "gone", "uri": "gone.mp4"},
    {"name": "../out", "uri": "b.MOV"},
]


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_manifests(place: str, tmp_path: Path, kind: str) -> None:
    file = tmp_path / f"list.{kind}"
    if kind == "csv":
        file.write_text("uri,name,who\n" + "".join(f"{r['uri']},{r['name'] or ''},x\n" for r in ROWS))
    elif kind == "jsonl":
        file.write_text("".join(json.dumps(r) + "\n" for r in ROWS))
    else:
        pq.write_table(pa.Table.from_pylist(ROWS), file)
    open_storage(place).upload(file, file.name)
    videos, faults = find_videos([f"{place}/{file.name}"])
    assert [(v.name, v.uri) for v in videos] == [("c", f"{place}/more/deep/c.webm"), ("first", f"{place}/a.mp4")]
    assert [(f.name, f.slug) for f in faults] == [("gone", "storage-missing"), ("../out", "name-invalid")]


def test_a_long_manifest_lists_its_folder_once(place: str, tmp_path: Path) -> None:
    store = open_storage(place)
    for i in range(20):
        store.write(f"many/{i}.mp4", b"x" * i)
    store.write("many.csv", ("uri\n" + "".join(f"many/{i}.mp4\n" for i in range(21))).encode())
    videos, faults = find_videos([f"{place}/many.csv"])
    assert {v.name: v.size_bytes for v in videos} == {str(i): i for i in range(20)}
    assert [f.uri for f in faults] == [f"{place}/many/20.mp4"]


@pytest.mark.parametrize(
    ("text", "slug"),
    [
        ("gone.mp4", "storage-missing"),
        ("gone/", "storage-missing"),
        ("*.gone", "storage-missing"),
        ("broken.csv", "file-invalid"),
        ("broken.parquet", "file-invalid"),
    ],
)
def test_inputs_that_are_none_are_rows(place: str, text: str, slug: str) -> None:
    store = open_storage(place)
    store.write("broken.csv", b"film,other\na.mp4,1\n")
    store.write("broken.parquet", b"no parquet")
    videos, faults = find_videos([f"{place}/{text}", f"{place}/a.mp4"])
    assert [v.name for v in videos] == ["a"]
    assert [f.slug for f in faults] == [slug]


def test_an_unknown_kind_of_place_is_a_row() -> None:
    videos, faults = find_videos(["ftp://host/a.mp4"])
    assert (videos, [f.slug for f in faults]) == ([], ["storage-unavailable"])


@pytest.mark.parametrize("name", ["", "a/b", "..", ".a", "a\\b", "a\nb"])
def test_names_that_cannot_be_files_are_refused(name: str) -> None:
    with pytest.raises(NameInvalid):
        checked_video_name(name)
    assert checked_video_name("Zoë dances 2") == "Zoë dances 2"
