from __future__ import annotations

import dataclasses
import json
import pickle
import weakref
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cluster.core.error_records import Fault
from cluster.poses.inputs import Listed, find_videos
from cluster.poses.segments import Job, Joined, Looked, Segment, join, look, read
from dancedist.pose.detect import Means
from dancedist.pose.people import People
from dancedist.pose.sequence import read_poses
from dancedist.recipe import ExtractionRecipe, PoseRecipe, VideoRecipe
from dancedist.video.encode import write_film

FRAMES, GRID = 20, 8
MEANS = Means("d" * 64, "m" * 64, "openvino", "cpu", "f32", "imagined")


class Imagined:
    """Sees one person wherever it looks, who stands where the frame's colour says."""

    means = MEANS

    def segment(self, frames: Iterable[Any]) -> People:
        seen = list(frames)
        people = People.nobody(len(seen), 1, 26)
        for t, frame in enumerate(seen):
            people.xy[t], people.score[t], people.track[t] = frame[0, 0, 0], 0.9, 0
            people.box[t] = (0, 0, 20, 50)
        return people


@pytest.fixture
def film(tmp_path: Path) -> Path:
    frames = (np.full((32, 32, 3), 5 * i, np.uint8) for i in range(FRAMES))
    write_film(tmp_path / "in" / "film.mp4", list(frames), Fraction(25), crf=1, speed="ultrafast")
    return tmp_path / "in" / "film.mp4"


def job(out: Path, **pose: Any) -> Job:
    recipe = PoseRecipe.model_validate({"segment_frames": GRID, "smoothing": "none", **pose})
    return Job(str(out), VideoRecipe(), recipe, ExtractionRecipe(), MEANS)


def listed(path: Path) -> Listed:
    return find_videos([str(path)])[0][0]


def cut(work: Job, video: Listed) -> list[Segment]:
    found = read(work, video)
    assert isinstance(found, list), found
    return found


def test_a_video_goes_all_the_way(film: Path, tmp_path: Path) -> None:
    work = job(tmp_path / "out")
    segments = cut(work, listed(film))
    assert [(s.start_frame, s.stop_frame) for s in segments] == [(0, 8), (8, 16), (16, 20)]
    assert {(s.frames, s.segments, s.missing) for s in segments} == {(20, 3, 3)}
    for segment in reversed(segments):
        assert isinstance(look(work, Imagined(), segment), Looked)
    joined = join(work, segments[1])
    assert isinstance(joined, Joined), joined
    assert (joined.frames, joined.frames_with_dancer) == (FRAMES, FRAMES)
    poses = read_poses(tmp_path / "out/poses/film.parquet")
    np.testing.assert_allclose(poses.xy[:, 3, 0], 5 * np.arange(FRAMES), atol=2)
    record = json.loads((tmp_path / "out" / work.done_name(listed(film))).read_text())
    assert (record["name"], record["frames"], record["poses_key"]) == ("film", FRAMES, poses.fingerprint)


def test_only_what_is_missing_is_left_to_do(film: Path, tmp_path: Path) -> None:
    work = job(tmp_path / "out")
    first, second, third = cut(work, listed(film))
    look(work, Imagined(), second)
    assert cut(work, listed(film)) == [dataclasses.replace(s, missing=2) for s in (first, third)]
    look(work, Imagined(), first)
    look(work, Imagined(), third)
    (whole,) = cut(work, listed(film))
    assert (whole.missing, whole.start_frame, whole.stop_frame) == (0, 0, 0)
    # Smoothing comes after the people: they are kept. Another grid, or other networks, find other people.
    assert len(cut(job(tmp_path / "out", smoothing="median"), listed(film))) == 1
    assert len(cut(job(tmp_path / "out", segment_frames=10), listed(film))) == 2
    other = dataclasses.replace(work, means=dataclasses.replace(MEANS, model_sha256="n" * 64))
    assert len(cut(other, listed(film))) == 3


def test_the_same_content_under_another_name_shares_its_segments(film: Path, tmp_path: Path) -> None:
    work = job(tmp_path / "out")
    for segment in cut(work, listed(film)):
        look(work, Imagined(), segment)
    copy = film.with_name("copy.mp4")
    copy.write_bytes(film.read_bytes())
    (whole,) = cut(work, listed(copy))
    assert whole.missing == 0
    assert work.done_name(listed(copy)) != work.done_name(listed(film))


@pytest.mark.parametrize("change", [{"smoothing": "median"}, {"segment_frames": 9}, {"topology": "coco17"}])
def test_the_record_is_of_these_settings(film: Path, tmp_path: Path, change: dict[str, Any]) -> None:
    assert job(tmp_path, **change).done_name(listed(film)) != job(tmp_path).done_name(listed(film))


def test_what_decides_nothing_changes_no_record(film: Path, tmp_path: Path) -> None:
    other = dataclasses.replace(job(tmp_path), extraction=ExtractionRecipe(workers=7, worker_threads=2))
    assert other.done_name(listed(film)) == job(tmp_path / "elsewhere").done_name(listed(film))


def test_bad_videos_are_rows_with_the_uri(tmp_path: Path) -> None:
    bad = tmp_path / "bad.mp4"
    bad.write_text("no film")
    found = read(job(tmp_path / "out"), listed(bad))
    assert isinstance(found, Fault)
    assert (found.name, found.uri, found.slug) == ("bad", str(bad), "video-unreadable")
    assert str(bad) in found.message


def test_a_video_that_changes_on_the_way_is_told(film: Path, tmp_path: Path) -> None:
    work = job(tmp_path / "out")
    segments = cut(work, listed(film))
    film.write_bytes(film.read_bytes() + b"more")
    found = look(work, Imagined(), segments[1])
    assert isinstance(found, Fault)
    assert (found.slug, found.start_frame, found.stop_frame) == ("video-changed", 8, 16)


def test_a_place_that_cannot_be_written_is_told_apart(film: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    found = read(job(tmp_path / "file"), listed(film))
    assert isinstance(found, Fault)
    assert found.slug == "output-unavailable"


def test_a_broken_segment_is_a_row(film: Path, tmp_path: Path) -> None:
    work = job(tmp_path / "out")
    segments = cut(work, listed(film))
    for segment in segments:
        look(work, Imagined(), segment)
    broken = tmp_path / "out" / f"work/segments/{segments[0].key}/000000008.safetensors"
    broken.write_bytes(broken.read_bytes()[:50])
    found = join(work, segments[0])
    assert isinstance(found, Fault)
    assert found.slug == "file-invalid"
    assert not (tmp_path / "out/poses").exists()
    # The next run looks at it again.
    assert [(s.start_frame, s.missing) for s in cut(work, listed(film))] == [(8, 1)]


def test_a_long_video_is_joined_from_few_segments_at_a_time(
    film: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def joined(work: Job) -> bytes:
        parts = cut(work, listed(film))
        for segment in parts:
            look(work, Imagined(), segment)
        assert isinstance(join(work, parts[0]), Joined)
        return (Path(work.output) / f"poses/{parts[0].name}.parquet").read_bytes()

    whole = joined(job(tmp_path / "whole"))
    monkeypatch.setattr("cluster.poses.segments.KEPT_SEGMENTS", 1)
    held: list[weakref.ref[People]] = []
    read = People.from_bytes
    most = 0

    def watched(data: bytes, name: str) -> People:
        nonlocal most
        people = read(data, name)
        held.append(weakref.ref(people))
        most = max(most, sum(ref() is not None for ref in held))
        return people

    monkeypatch.setattr(People, "from_bytes", watched)
    assert joined(job(tmp_path / "few")) == whole
    # The one that is kept, the one that is looked at, and the one that comes.
    assert most <= 3 < len(held)


def test_jobs_travel(tmp_path: Path) -> None:
    work = job(tmp_path)
    assert pickle.loads(pickle.dumps(work)) == work
    assert hash(work) == hash(job(tmp_path))
