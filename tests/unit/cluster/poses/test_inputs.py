from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cluster.poses.inputs import checked_video_name, find_videos
from cluster.storage.base import NameInvalid
from cluster.storage.open import open_storage
from tests.support.s3 import S3Server


@pytest.fixture(params=["folder", "bucket"])
def films_uri(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
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
    videos, failures = find_videos(inputs)
    assert failures == []
    return [v.name for v in videos]


def test_a_folder_is_searched_for_videos(films_uri: str) -> None:
    videos, failures = find_videos([films_uri])
    assert [v.name for v in videos] == ["a", "b", "more__a", "more__deep__c"]
    assert failures == []
    assert videos[2].uri == f"{films_uri}/more/a.mp4"
    assert (videos[2].size_bytes, videos[2].etag) == (10, open_storage(films_uri).stat("more/a.mp4").etag)  # type: ignore[union-attr]
    assert names(films_uri + "/") == [v.name for v in videos]


def test_a_bucket_is_listed_like_a_folder(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in s3_server.environment.items():
        monkeypatch.setenv(name, value)
    uri = s3_server.uri("whole")
    open_storage(uri).write("a.mp4", b"a")
    assert names(uri) == names(uri + "/") == ["a"]
    assert find_videos([uri])[0][0].uri == "s3://whole/a.mp4"


def test_explicit_files_may_have_any_suffix(films_uri: str) -> None:
    assert names(f"{films_uri}/notes.txt", f"{films_uri}/more/deep/c.webm") == ["c", "notes"]


@pytest.mark.parametrize(
    ("glob", "expected"),
    [
        ("*.mp4", ["a"]),
        ("*", ["a", "b", "notes"]),
        ("**/*.webm", ["c"]),
        ("more/**", ["a", "c"]),
        ("?.[mM]*", ["a", "b"]),
        ("[!a].*", ["b"]),
    ],
)
def test_globs(films_uri: str, glob: str, expected: list[str]) -> None:
    assert names(f"{films_uri}/{glob}") == expected


def test_a_repeated_video_is_listed_once_and_another_of_its_name_is_an_error(films_uri: str) -> None:
    assert names(films_uri, f"{films_uri}/a.mp4") == ["a", "b", "more__a", "more__deep__c"]
    videos, failures = find_videos([f"{films_uri}/a.mp4", f"{films_uri}/more/a.mp4"])
    assert [v.uri for v in videos] == [f"{films_uri}/a.mp4"]
    assert [(f.name, f.slug, f.uri) for f in failures] == [("a", "name-taken", f"{films_uri}/more/a.mp4")]


ROWS = [
    {"name": "first", "uri": "a.mp4"},
    {"name": None, "uri": "more/deep/c.webm"},
    {"name": "gone", "uri": "gone.mp4"},
    {"name": "../out", "uri": "b.MOV"},
]


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_manifests(films_uri: str, tmp_path: Path, kind: str) -> None:
    file = tmp_path / f"list.{kind}"
    if kind == "csv":
        file.write_text("uri,name,who\n" + "".join(f"{r['uri']},{r['name'] or ''},x\n" for r in ROWS))
    elif kind == "jsonl":
        file.write_text("".join(json.dumps(r) + "\n" for r in ROWS))
    else:
        pq.write_table(pa.Table.from_pylist(ROWS), file)
    open_storage(films_uri).upload(file, file.name)
    videos, failures = find_videos([f"{films_uri}/{file.name}"])
    assert [(v.name, v.uri) for v in videos] == [
        ("c", f"{films_uri}/more/deep/c.webm"),
        ("first", f"{films_uri}/a.mp4"),
    ]
    assert [(f.name, f.slug) for f in failures] == [("gone", "storage-missing"), ("../out", "name-invalid")]


def test_a_long_manifest_lists_its_folder_once(films_uri: str, tmp_path: Path) -> None:
    store = open_storage(films_uri)
    for i in range(20):
        store.write(f"many/{i}.mp4", b"x" * i)
    store.write("many.csv", ("uri\n" + "".join(f"many/{i}.mp4\n" for i in range(21))).encode())
    videos, failures = find_videos([f"{films_uri}/many.csv"])
    assert {v.name: v.size_bytes for v in videos} == {str(i): i for i in range(20)}
    assert [f.uri for f in failures] == [f"{films_uri}/many/20.mp4"]


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
def test_invalid_inputs_are_error_records(films_uri: str, text: str, slug: str) -> None:
    store = open_storage(films_uri)
    store.write("broken.csv", b"film,other\na.mp4,1\n")
    store.write("broken.parquet", b"no parquet")
    videos, failures = find_videos([f"{films_uri}/{text}", f"{films_uri}/a.mp4"])
    assert [v.name for v in videos] == ["a"]
    assert [f.slug for f in failures] == [slug]


def test_an_unknown_kind_of_storage_is_an_error_record() -> None:
    videos, failures = find_videos(["ftp://host/a.mp4"])
    assert (videos, [f.slug for f in failures]) == ([], ["storage-unavailable"])


@pytest.mark.parametrize("name", ["", "a/b", "..", ".a", "a\\b", "a\nb"])
def test_invalid_names_are_refused(name: str) -> None:
    with pytest.raises(NameInvalid):
        checked_video_name(name)
    assert checked_video_name("Zoë dances 2") == "Zoë dances 2"
